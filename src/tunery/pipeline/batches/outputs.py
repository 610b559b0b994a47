"""The files that a batch ends with: its answers, and what came to none, in OpenAI's lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tunery.core.batch import Batch, BatchAnswer
from tunery.pipeline.batches.lines import RequestLine, read_lines
from tunery.pipeline.jobs.files import store_produced
from tunery.store.workspace import Workspace

if TYPE_CHECKING:
    from tunery.pipeline.batches.run import Reply

_UNANSWERED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed: the batch was cancelled."),
}
_TOKENS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
"""What chat and completions call the counts of their usage, and what responses do."""


class Outputs(NamedTuple):
    """The files of a batch; None where one would be empty."""

    output_file_id: str | None
    error_file_id: str | None


def response_line(batch: Batch, line: RequestLine, reply: Reply) -> BatchAnswer:
    """Return what is kept of a line that was answered, be it with an error."""
    usage = reply.body.get("usage")
    prompt, completion = (_count(usage, names) for names in _TOKENS)
    response = {"status_code": reply.status, "request_id": reply.request_id, "body": reply.body}
    content = _content(batch, line.number, line.custom_id, response=response)
    return BatchAnswer(line.number, reply.status < 400, prompt, completion, content)


def error_line(batch: Batch, line: RequestLine, ends_as: str) -> Mapping[str, Any]:
    """Return the line of a request that was never sent."""
    code, message = _UNANSWERED[ends_as]
    return _content(batch, line.number, line.custom_id, error={"code": code, "message": message})


def write_outputs(workspace: Workspace, batch: Batch, path: Path) -> Outputs:
    """Write a batch's files; those that are there already, from before a server died, are kept.

    Args:
        path: The batch's own file, whose lines without an answer are named among the errors.
    """
    answered = workspace.batches.lines_answered(batch.id)

    def refused() -> Iterator[Mapping[str, Any]]:
        yield from (answer.content for answer in workspace.batches.answers(batch.id, ok=False))
        if batch.ends_as in _UNANSWERED and len(answered) < batch.lines:
            for line in read_lines(path, answered):
                yield error_line(batch, line, batch.ends_as)

    answers = (answer.content for answer in workspace.batches.answers(batch.id, ok=True))
    return Outputs(
        _store(workspace, batch, "output", answers),
        _store(workspace, batch, "error", refused()),
    )


def _store(
    workspace: Workspace, batch: Batch, kind: str, contents: Iterator[Mapping[str, Any]]
) -> str | None:
    first = next(contents, None)
    if first is None:
        return None

    def write(target: Path) -> None:
        with target.open("w", encoding="utf-8") as out:
            out.write(json.dumps(first, ensure_ascii=False) + "\n")
            out.writelines(json.dumps(content, ensure_ascii=False) + "\n" for content in contents)

    file_id = f"file-{batch.id.removeprefix('batch_')}-{kind}"
    after_s = batch.output_expires_after_s
    return store_produced(
        workspace,
        file_id,
        f"{batch.id}_{kind}.jsonl",
        "batch_output",
        write,
        life=None if after_s is None else timedelta(seconds=after_s),
    ).id


def _content(
    batch: Batch,
    number: int,
    custom_id: str,
    *,
    response: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> Mapping[str, Any]:
    id = f"batch_req_{batch.id.removeprefix('batch_')}_{number}"
    return {"id": id, "custom_id": custom_id, "response": response, "error": error}


def _count(usage: Any, names: tuple[str, ...]) -> int:
    found = [usage[name] for name in names if name in usage] if isinstance(usage, Mapping) else []
    return found[0] if found and isinstance(found[0], int) else 0
