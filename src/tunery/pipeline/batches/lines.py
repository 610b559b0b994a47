"""The lines of a batch's file: checked as a whole before the first is sent, then read as they are needed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.batch import BatchProblem
from tunery.core.ids import sha256_text
from tunery.serve.openai.strict_json import BadJson, read_strictly

_TOLD = 100
"""Problems of one file that are listed [count]."""
_READ, _READ_BYTES = 32, 2**20
"""Lines read at once at most [count], and their size from which on no more are [bytes]."""
_ID_CHARACTERS = 512
_FIELDS = ("custom_id", "method", "url", "body")


class RequestLine(NamedTuple):
    """One request of a batch."""

    number: int
    """Line of the file, counted from 1."""
    custom_id: str
    body: Mapping[str, Any]
    bytes: int = 0
    """Size of the line [bytes]."""


class CheckedFile(NamedTuple):
    """What a batch's file holds."""

    lines: int
    """Requests [count]."""
    model: str | None
    """What all of them ask for; None where they differ."""
    problems: tuple[BatchProblem, ...]
    """Why it cannot be a batch: the first hundred."""


class _Wrong(Exception):  # noqa: N818 - says what is wrong with a line
    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def check_lines(path: Path, endpoint: str, *, max_lines: int, max_line_bytes: int) -> CheckedFile:
    """Read a whole file once and say what is wrong with it, line by line.

    What a body asks for is judged when it is answered, as that of a live request is.

    Args:
        path: Its bytes, one JSON object a line.
        endpoint: Path that every line must name.
        max_lines: Requests at most [count].
        max_line_bytes: Size of one line at most, as of a live request's body [bytes].
    """
    problems: list[BatchProblem] = []
    seen: set[str] = set()
    models: set[str] = set()
    count = wrong = 0
    for number, raw in _raw_lines(path, max_line_bytes):
        count += 1
        problem = _problem_of(raw, endpoint, seen, models, max_line_bytes)
        if count > max_lines:
            problem = _Wrong("too_many_requests", f"a batch has {max_lines:,} requests at most")
        if problem is not None:
            wrong += 1
            if len(problems) < _TOLD:
                problems.append(
                    BatchProblem(code=problem.code, message=problem.message, line=number, param=problem.param)
                )
        if count > max_lines:
            break
    if not count:
        problems.append(BatchProblem(code="empty_file", message="the file holds no request"))
    if wrong > len(problems):
        more = BatchProblem(code="more_problems", message=f"and {wrong - len(problems):,} more lines")
        problems.append(more)
    return CheckedFile(count, models.pop() if len(models) == 1 else None, tuple(problems))


def read_lines(path: Path, done: Collection[int]) -> Iterator[RequestLine]:
    """Yield the requests of a file that was checked, those of the lines ``done`` left out."""
    for number, raw in _raw_lines(path, None):
        if number not in done:
            fields = json.loads(raw)
            yield RequestLine(number, fields["custom_id"], fields["body"], len(raw))


def next_lines(lines: Iterator[RequestLine]) -> list[RequestLine]:
    """Return the next lines of a file, fewer where they are large; none at its end."""
    found: list[RequestLine] = []
    for line in lines:
        found.append(line)
        if len(found) == _READ or sum(one.bytes for one in found) >= _READ_BYTES:
            break
    return found


def _raw_lines(path: Path, most: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers; of one that is too long only its begin."""
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(-1 if most is None else most + 1):
            number += 1
            whole = line
            while most is not None and len(whole) > most and not whole.endswith(b"\n"):
                whole = stream.readline(most + 1)  # the rest of it, which nobody needs
                if not whole:
                    break
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


def _problem_of(raw: bytes, endpoint: str, seen: set[str], models: set[str], max_bytes: int) -> _Wrong | None:
    try:
        if len(raw) > max_bytes:
            raise _Wrong("line_too_large", f"the line is over the limit of {max_bytes:,} bytes")
        fields = _fields(raw)
        _check_address(fields, endpoint)
        custom_id = _custom_id(fields)
        digest = sha256_text(custom_id)[:32]
        if digest in seen:
            raise _Wrong(
                "duplicate_custom_id", f"custom_id {custom_id!r:.80} stands on a line before", "custom_id"
            )
        seen.add(digest)
        models.add(str(_body(fields).get("model")))
    except _Wrong as problem:
        return problem
    return None


def _fields(raw: bytes) -> Mapping[str, Any]:
    try:
        fields = read_strictly(raw)
    except BadJson as error:
        raise _Wrong("invalid_json_line", error.message.replace("the body", "the line")) from None
    if not isinstance(fields, dict):
        raise _Wrong("invalid_json_line", "the line is no JSON object")
    for name in _FIELDS:
        if name not in fields:
            raise _Wrong("missing_required_parameter", f"{name} is missing", name)
    return fields


def _check_address(fields: Mapping[str, Any], endpoint: str) -> None:
    if fields["method"] != "POST":
        raise _Wrong("invalid_method", f"method is {fields['method']!r:.40}; write POST", "method")
    if fields["url"] != endpoint:
        raise _Wrong("invalid_url", f"url is {fields['url']!r:.80}; the batch is for {endpoint}", "url")


def _custom_id(fields: Mapping[str, Any]) -> str:
    custom_id = fields["custom_id"]
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _ID_CHARACTERS:
        raise _Wrong(
            "invalid_custom_id", f"custom_id must be text of 1 to {_ID_CHARACTERS} characters", "custom_id"
        )
    return custom_id


def _body(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    body = fields["body"]
    if not isinstance(body, dict):
        raise _Wrong("invalid_body", "body is no JSON object", "body")
    if body.get("stream"):
        raise _Wrong("invalid_body", "a batch is not streamed; leave stream out", "body.stream")
    return body
