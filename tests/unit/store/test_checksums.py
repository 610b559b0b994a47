"""Checksums are computed again whenever a file could have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tunery.core.ids import sha256_file
from tunery.store import checksums
from tunery.store.checksums import checksum, note_of, remembered_checksum

SIZE = 5 << 20


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checksums, "_SETTLED_NS", 20_000_000)
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(SIZE))
    time.sleep(0.05)
    return path


def change(path: Path) -> None:
    """Change a byte and put size and time of modification back."""
    stat = path.stat()
    with path.open("r+b") as stream:
        stream.seek(SIZE // 2)
        stream.write(b"\1")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.mark.parametrize("compute", [checksum, remembered_checksum])
def test_a_byte_that_changed_behind_size_and_time_is_noticed(large: Path, compute: object) -> None:
    assert callable(compute)
    before = compute(large)
    assert before == compute(large) == sha256_file(large)
    change(large)
    assert compute(large) == sha256_file(large) != before


def test_a_large_file_is_read_once_for_each_identity(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr(checksums, "sha256_file", reading)
    for _ in range(3):
        checksum(large)
    assert read == [large]
    other = large.with_name("other")
    other.write_bytes(bytes(SIZE - 1) + b"\1")
    other.replace(large)
    time.sleep(0.05)
    checksum(large)
    assert read == [large, large]


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(SIZE))
    remembered_checksum(path)
    assert not note_of(path).exists()


def test_a_note_that_is_torn_is_not_trusted(large: Path) -> None:
    right = remembered_checksum(large)
    assert note_of(large).exists()
    for torn in ("", "x", note_of(large).read_text()[:-20], f"{'0' * 64} {'1' * 64}"):
        note_of(large).write_text(torn)
        assert remembered_checksum(large) == right
