"""Lines that outlive a kill, whatever byte it came at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.core.errors import BusyError
from tunery.store.growing_lines import GrowingLines


def test_lines_are_read_back_and_grow(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with GrowingLines(path) as lines:
        assert lines.lines == []
        lines.append([{"a": "é"}, {"b": 2}])
    with GrowingLines(path) as lines:
        assert lines.lines == ['{"a": "é"}'.encode(), b'{"b": 2}']
        lines.append([{"c": 3}])
        lines.restart()
        lines.append([{"d": 4}])
        assert lines.append([{"e": "ö"}]) == 9
        assert [lines.line_at(begin) for begin in (0, 9)] == [b'{"d": 4}\n', '{"e": "ö"}\n'.encode()]
    assert path.read_text() == '{"d": 4}\n{"e": "ö"}\n'


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_line_that_was_cut_off_is_taken_away(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "lines.jsonl"
    with GrowingLines(path) as lines:
        lines.append([{"a": 1}, {"b": 2}])
    path.write_bytes(path.read_bytes()[:-cut])
    with GrowingLines(path) as lines:
        assert lines.lines == [b'{"a": 1}']
        lines.append([{"c": 3}])
    assert path.read_text() == '{"a": 1}\n{"c": 3}\n'


def test_one_process_writes(tmp_path: Path) -> None:
    with GrowingLines(tmp_path / "x"), pytest.raises(BusyError, match="in use"):
        GrowingLines(tmp_path / "x")
