"""The optimizer's state, packed without loss, so that a checkpoint takes less than three times its adapter.

Adam keeps two numbers for each trained weight. Their exponents are alike, their last bits are noise: with the
first bytes of all numbers side by side, then the second ones, Zstandard saves about a seventh of them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_STATE = "optimizer.pt"
_PACKED = "optimizer.pt.zst"
_BLOCK = 16 << 20
"""Of the file, packed at once [bytes]."""
_WIDTH = 4
"""Of a number; PyTorch lays tensors out at multiples of 64 [bytes]."""


def pack_state(checkpoint: Path) -> None:
    """Pack the optimizer's state in a checkpoint; one that has none, or shards of it, is left as it is."""
    import pyarrow as pa

    state = checkpoint / _STATE
    if not state.is_file():
        return
    with state.open("rb") as source, pa.output_stream(str(checkpoint / _PACKED), compression="zstd") as sink:
        while block := source.read(_BLOCK):
            sink.write(_apart(block))
    state.unlink()


@contextmanager
def unpacked_state(checkpoint: Path) -> Iterator[Path]:
    """Yield a folder with the optimizer's state and the schedule as they were before they were packed.

    It is the checkpoint itself where nothing is packed in it, as in those of earlier versions.
    """
    import pyarrow as pa

    if not (checkpoint / _PACKED).is_file():
        yield checkpoint
        return
    with tempfile.TemporaryDirectory(dir=checkpoint.parent, prefix=".unpacked-") as name:
        folder = Path(name)
        with (
            pa.input_stream(str(checkpoint / _PACKED), compression="zstd") as source,
            (folder / _STATE).open("wb") as sink,
        ):
            while block := source.read(_BLOCK):
                sink.write(_together(block))
        for path in checkpoint.glob("scheduler.pt"):
            shutil.copyfile(path, folder / path.name)
        yield folder


def _apart(block: bytes) -> bytes:
    """Return the first bytes of all numbers, then the second ones, and so on; a rest stays at the end."""
    whole = len(block) // _WIDTH * _WIDTH
    planes = np.frombuffer(block[:whole], dtype=np.uint8).reshape(-1, _WIDTH).T
    return planes.tobytes() + block[whole:]


def _together(block: bytes) -> bytes:
    whole = len(block) // _WIDTH * _WIDTH
    planes = np.frombuffer(block[:whole], dtype=np.uint8).reshape(_WIDTH, -1).T
    return planes.tobytes() + block[whole:]
