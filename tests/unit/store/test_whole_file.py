"""A file appears whole or not at all."""

from pathlib import Path

import pytest

from tunery.store.whole_file import write_whole


def test_what_was_there_stays_until_the_new_text_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    with write_whole(path) as stream:
        stream.write("ne\u2028w\r\n")
        assert path.read_text() == "old"
    assert path.read_bytes() == "ne\u2028w\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), write_whole(path) as stream:
        stream.write("half\ud800")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])
    with pytest.raises(OSError, match="No such file"), write_whole(tmp_path / "missing" / "x"):
        pass
