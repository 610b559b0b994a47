"""The lines of a batch's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunery.pipeline.batches.lines import CheckedFile, check_lines, next_lines, read_lines

CHAT = "/v1/chat/completions"


def line(id: str, **more: Any) -> str:
    return json.dumps({"custom_id": id, "method": "POST", "url": CHAT, "body": {"model": "m"}, **more})


def check(
    path: Path, content: str | bytes, *, max_lines: int = 100, max_line_bytes: int = 200
) -> CheckedFile:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return check_lines(path, CHAT, max_lines=max_lines, max_line_bytes=max_line_bytes)


def test_lines_keep_the_numbers_that_an_editor_shows(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    content = "\ufeff" + line("a") + "\r\n\n   \n" + line("b") + "\n" + line("c")
    assert check(path, content) == CheckedFile(3, "m", ())
    assert [(read.number, read.custom_id) for read in read_lines(path, {4})] == [(1, "a"), (5, "c")]


def test_large_lines_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    sizes = [400_000] * 5 + [10] * 40
    bodies = ({"model": "m", "text": "x" * size} for size in sizes)
    path.write_text("\n".join(line(str(n), body=body) for n, body in enumerate(bodies)))
    lines = read_lines(path, set())
    assert [len(next_lines(lines)) for _ in range(5)] == [3, 32, 10, 0, 0]


def test_a_line_that_is_too_long_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    long = line("b", body={"model": "m", "text": "x" * 5_000_000})
    checked = check(path, "\n".join([line("a"), long, line("a")]))
    assert [(p.line, p.code) for p in checked.problems] == [(2, "line_too_large"), (3, "duplicate_custom_id")]


def test_more_lines_than_allowed_end_the_look_at_a_file(tmp_path: Path) -> None:
    checked = check(tmp_path / "batch.jsonl", "\n".join(line(str(n)) for n in range(1_000)), max_lines=7)
    assert [(p.line, p.code) for p in checked.problems] == [(8, "too_many_requests")]


def test_of_very_many_problems_a_hundred_are_told(tmp_path: Path) -> None:
    checked = check(tmp_path / "batch.jsonl", "nonsense\n" * 1_000, max_lines=5_000)
    assert len(checked.problems) == 101
    assert checked.problems[-1].message == "and 900 more lines"


def test_a_model_is_named_where_all_lines_ask_for_it(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    assert check(path, line("a") + "\n" + line("b", body={"model": "other"})).model is None
    assert check(path, b"\xff\xfe\n").problems[0].code == "invalid_json_line"
    assert check(path, line("a") + "\n" + '{"custom_id": "b", "custom_id": "c"}').problems[0].line == 2
