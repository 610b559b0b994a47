"""The file of synthetic rows, what was rejected beside it, and the manifest, which is written last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tunery.core.config import Record
from tunery.core.errors import ConfigError, ConflictError
from tunery.core.example import SPLIT_HINT, Message
from tunery.core.ids import sha256_file
from tunery.store.whole_file import write_whole


class OutputFiles(NamedTuple):
    """Where everything lies: beside the rows, under their name."""

    rows: Path
    rejected: Path
    journal: Path
    manifest: Path


class Synthesised(Record):
    """What a call wrote and what it cost; the manifest beside the rows."""

    path: str
    """The file of rows."""
    sha256: str
    """Of its bytes."""
    identity: str
    """Hash of method, teacher, prompt and seed rows; equal ones continue each other."""
    created_at: datetime
    dataset_version: str
    """Whose training rows were the seeds."""
    method: str
    teacher: str
    """The teacher's model name."""
    endpoint: str
    """The teacher's host."""
    prompts: Mapping[str, str]
    """Part, ``rows`` or ``judge``, to the version of its prompt."""
    sampling: Mapping[str, Any]
    """How the teacher's answers were drawn."""
    seed_rows: int
    """Training rows that could serve as seeds [rows]."""
    rows_asked: int
    rows: int
    """Rows in the file [rows]."""
    surplus: int
    """Good rows beyond those requested [rows]."""
    rejected: Mapping[str, int]
    """Reason to rows, or to whole answers that could not be read [count]."""
    requests: int
    """Answers that the rows rest on [count]."""
    bought: int
    """Of these and the judge's, paid for in this call; the others were in the journal [count]."""
    retries: int
    """Attempts beyond the first, in this call [count]."""
    failed: int
    """Requests that no attempt brought an answer to, in this call [count]."""
    tokens: int
    """Spent on this file in all calls, prompts and answers, unknown ends at their ceiling [tokens]."""
    tokens_unsure: int
    """Of these, set aside for requests whose end nobody knows: killed, timed out [tokens]."""
    usd: float | None
    """Spent on this file in all calls; None where no price is set [US dollars]."""
    unmetered: int
    """Answers whose tokens the endpoint did not count; they stand at their ceiling [count]."""
    stopped: Literal["budget", "requests"] | None
    """What ended it before all rows were there."""
    scores: Mapping[str, int] | None = None
    """The judge's score to rows [count]; None without a judge."""


def output_files(out: Path) -> OutputFiles:
    """Return the files that go with an output.

    Raises:
        ConfigError: The name does not end with ``.jsonl``, or its folder does not exist.
        ConflictError: The file exists and was not written here: it has no journal beside it.
    """
    if out.suffix != ".jsonl":
        raise ConfigError(
            f"{out} does not end with .jsonl, which is what is written",
            hint=f"--out {out.with_suffix('.jsonl')}",
        )
    if not out.parent.is_dir():
        raise ConfigError(
            f"{out}: the folder {str(out.parent)!r} does not exist", hint=f"mkdir -p {out.parent}"
        )
    rejected, journal, manifest = (
        out.with_suffix(end) for end in (".rejected.jsonl", ".journal.jsonl", ".manifest.json")
    )
    if out.exists() and not journal.exists():
        raise ConflictError(
            f"{out} exists and was not written by this command (there is no {journal.name})",
            hint="choose another --out",
        )
    return OutputFiles(out, rejected, journal, manifest)


def row_of(
    opening: Iterable[Message], input: str, output: str, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a row in the chat shape, kept out of held-out splits by its own word."""
    turns = [
        *({"role": m.role, "content": m.content} | ({} if m.weight else {"weight": 0}) for m in opening),
        {"role": "user", "content": input},
        {"role": "assistant", "content": output},
    ]
    return {"messages": turns, "metadata": {**metadata, SPLIT_HINT: "train"}}


def write_output(
    files: OutputFiles,
    rows: Iterable[Mapping[str, Any]],
    rejected: Iterable[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> Synthesised:
    """Write rows and rejected rows, each whole or not at all, and the manifest last.

    Args:
        files: Where.
        rows: What a recipe may list as a source.
        rejected: What may not enter, each with its reason.
        about: Fields of the manifest, but for ``path`` and ``sha256``.
    """
    # From here until it is back, rows and manifest may be of different calls.
    files.manifest.unlink(missing_ok=True)
    _write_lines(files.rejected, rejected)
    _write_lines(files.rows, rows)
    manifest = Synthesised(path=str(files.rows), sha256=sha256_file(files.rows), **about)
    _write_lines(files.manifest, [manifest.model_dump(mode="json")], indent=1)
    return manifest


def _write_lines(path: Path, values: Iterable[Mapping[str, Any]], indent: int | None = None) -> None:
    with write_whole(path) as stream:
        for value in values:
            stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n")
