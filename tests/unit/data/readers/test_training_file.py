"""Uploaded training files: every problem with row, field, value and fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunery.core.errors import ConfigError
from tunery.data.readers.training_file import FileCheck, check_training_file, require_training_file

HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello"}
CHAT = {"messages": [HI, HELLO]}
PREFERENCE = {"input": {"messages": [HI]}, "preferred_output": [HELLO], "non_preferred_output": [HELLO]}


def check(folder: Path, rows: list[Any]) -> FileCheck:
    path = folder / "train.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return check_training_file(path)


@pytest.mark.parametrize(
    ("row", "shape"),
    [(CHAT, "chat"), (PREFERENCE, "preference"), ({"prompt": "a", "completion": "b"}, "completion")],
)
def test_good_files_pass_with_their_shape(tmp_path: Path, row: dict[str, Any], shape: str) -> None:
    assert check(tmp_path, [row] * 12) == FileCheck(shape, 12, [])  # type: ignore[arg-type]


def test_bad_rows_are_all_reported_and_do_not_hide_each_other(tmp_path: Path) -> None:
    rows = [
        CHAT,
        {"messages": [{"role": "usr", "content": "Hi"}, HELLO]},
        "{broken",
        {"messages": [HI]},
        {"messages": [HI, {"role": "assistant", "content": ""}]},
        {"text": "x"},
        PREFERENCE,
        {"messages": [HI, {**HELLO, "weight": 0}]},
        {**CHAT, "tools": [{"type": "function"}]},
    ]
    found = check(tmp_path, rows)
    assert (found.shape, found.rows) == ("chat", 9)
    assert found.problems == [
        "row 2: messages[0].role: 'usr'; must be one of assistant, developer, function, system, tool, user; "
        "did you mean 'user'?",
        "row 3: not JSON: Expecting property name enclosed in double quotes at character 2",
        "row 4: messages[0].role: 'user'; the last turn must be the assistant's",
        "row 5: messages[1].content: no value; write the answer, or remove the row",
        "row 6: (keys): 'text'; needs messages, or prompt and completion, or input, preferred_output and "
        "non_preferred_output",
        "row 7: (keys): 'input, preferred_output, non_preferred_output'; this is a preference row in a chat "
        "file; upload one shape a file",
        "row 8: messages: every assistant turn has weight 0; give one assistant turn weight 1",
        "row 9: tools: [{'type': 'function'}]; each function must be an object with a name",
    ]


def test_a_first_bad_row_does_not_decide_the_shape(tmp_path: Path) -> None:
    found = check(tmp_path, ["[]", *[CHAT] * 11])
    assert found.shape == "chat"
    assert found.problems == ["row 1: []; a list, where an object {…} is expected"]


def test_empty_and_short_files_are_refused(tmp_path: Path) -> None:
    assert check(tmp_path, []).problems == ["the file has no rows"]
    assert check(tmp_path, [CHAT] * 9).problems == ["the file has 9 rows; at least 10 are needed"]


def test_problems_are_cut_at_fifty_and_counted(tmp_path: Path) -> None:
    found = check(tmp_path, ["{"] * 80)
    assert len(found.problems) == 51
    assert found.problems[-1] == "and 30 more"


def test_a_file_that_is_not_text_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"a": "\xff"}\n')
    assert "not UTF-8 at byte 7" in check_training_file(path).problems[0]
    path.write_bytes(b'{"a": "' + b"x" * 2_000_000)
    assert "longer than 1,048,576 bytes" in check_training_file(path).problems[0]


def test_requiring_a_good_file_raises_with_the_users_name_for_it(tmp_path: Path) -> None:
    path = tmp_path / "content.jsonl"
    path.write_text("{\n")
    with pytest.raises(ConfigError, match=r"mine\.jsonl: row 1: not JSON"):
        require_training_file(path, "mine.jsonl")
    path.write_text((json.dumps(CHAT) + "\n") * 10)
    assert require_training_file(path, "mine.jsonl").rows == 10
