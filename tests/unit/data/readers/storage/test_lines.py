"""Bounded lines of UTF-8, and the message when a file is something else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tunery.core.errors import ConfigError
from tunery.data.readers.storage.lines import guess_encoding, read_lines
from tunery.store.urls import InputFile


def texts(path: Path) -> list[str]:
    return list(read_lines(InputFile(path, path.name, 1000)))


def test_lines_come_as_they_are_without_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffäé\r\n\n最後".encode())
    assert texts(path) == ["äé\r\n", "\n", "最後"]


def test_gzip_is_unpacked_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_bytes(gzip.compress("één\ntwee\n".encode()))
    assert texts(path) == ["één\n", "twee\n"]


def test_a_byte_that_is_not_utf8_is_named_by_offset_line_and_likely_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    before = "grün\n".encode()
    path.write_bytes(before + "café au lait\n".encode("windows-1252"))
    offset = len(before) + 3
    with pytest.raises(
        ConfigError, match=rf"byte {offset} \(line 2, value 0xe9\).*WINDOWS-1252.*café"
    ) as caught:
        texts(path)
    assert "iconv -f WINDOWS-1252" in (caught.value.hint or "")


def test_the_offset_counts_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfab\xff")
    with pytest.raises(ConfigError, match="byte 5 "):
        texts(path)


def test_windows_and_latin_encodings_are_distinguished() -> None:
    assert guess_encoding("“naïve”".encode("windows-1252")) == "WINDOWS-1252"
    assert guess_encoding(b"\x81") == "ISO-8859-1"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,label\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest", "zip"),
        (b"PAR1rest", "Parquet"),
        (b"ab\x00cd", "byte 2 is zero"),
        (gzip.compress(b"abc" * 100, mtime=0)[:-6], "gzip data is damaged or cut short"),
    ],
)
def test_other_kinds_of_file_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        texts(path)


def test_a_line_over_the_limit_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "bomb.txt.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(b"fine\n")
        for _ in range(50):
            stream.write(b"x" * 1_000_000)
    lines = read_lines(InputFile(path, path.name, 1000))
    assert next(lines) == "fine\n"
    with pytest.raises(ConfigError, match=r"line 2 is longer than 1,000 bytes"):
        next(lines)
