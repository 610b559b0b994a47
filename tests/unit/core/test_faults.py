"""Faults of the machine: every form in which libraries raise them ends in the same words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tunery.core.errors import ConfigError, ResourceError
from tunery.core.faults import explained, is_out_of_memory, told

DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "quota is used up",
    errno.EROFS: "may only be read",
    errno.EIO: "input/output error",
    errno.EACCES: "no permission",
    errno.EMFILE: "too many files",
}


@pytest.mark.parametrize(("number", "words"), DISK.items())
def test_an_error_of_the_disk_names_the_place_and_what_helps(number: int, words: str, tmp_path: Path) -> None:
    place = tmp_path / "adapters" / "adapter-1"
    with pytest.raises(ResourceError, match=words) as caught, told(place):
        raise OSError(number, os.strerror(number))
    assert str(place) in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_libraries_raise_on_a_full_disk_is_a_full_disk() -> None:
    # Only what opens the file in place: safetensors renames a new one over it, device or not.
    tensors = {"a": torch.zeros(1 << 18)}
    for write in (
        lambda: Path("/dev/full").write_bytes(b"x" * 10),
        lambda: torch.save(tensors, "/dev/full"),
        lambda: pa.OSFile("/dev/full", "wb").write(b"x" * (1 << 20)),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which type is what the table is for
            write()
        fault = explained(caught.value)
        assert fault is not None
        assert "the disk is full" in fault.message


def test_the_words_of_libraries_that_name_no_number_are_known() -> None:
    for message in (
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/3",
        "[enforce fail at inline_container.cc:664] . unexpected pos 45888 vs 45776",
        "database or disk is full",
    ):
        assert "the disk is full" in str(explained(RuntimeError(message)))


def test_what_libraries_raise_without_memory_is_too_little_memory() -> None:
    too_much = 1 << 60
    for allocate in (
        lambda: torch.empty(too_much),
        lambda: np.empty(too_much, dtype=np.uint8),
        lambda: pa.allocate_buffer(too_much),
        lambda: bytearray(too_much),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            allocate()
        assert is_out_of_memory(caught.value)
        fault = explained(caught.value, memory_hint="train.micro_batch_size=1")
        assert fault is not None
        assert "not enough memory" in fault.message
        assert fault.hint == "train.micro_batch_size=1"


def test_what_it_was_raised_from_is_looked_at() -> None:
    def fail() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("while saving") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert "the disk is full" in str(explained(caught.value))


def test_mistakes_of_ours_and_errors_in_words_stay_what_they_are() -> None:
    assert explained(ValueError("epochs must be positive")) is None
    assert explained(KeyError("out of memory")) is None
    assert explained(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None
    ours = ConfigError("no space left on device is what the row says")
    assert explained(ours) is ours
    with pytest.raises(ZeroDivisionError), told():
        _ = 1 / 0
