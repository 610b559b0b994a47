"""The machine at hand: how fast it multiplies, and how much memory and disk are free."""

from __future__ import annotations

import shutil
import time
from functools import cache
from pathlib import Path

from tunery.core.config import Record

_SIZE = 1024
"""Rows and columns of the multiplied matrices; larger ones are no faster on a CPU [count]."""


class Machine(Record):
    """What a recipe can be run on."""

    device: str
    """``cpu`` or ``cuda``."""
    flops: float
    """Multiply-adds of a large matrix product, each counted as two operations [FLOP/s]."""
    free_memory_bytes: int
    """Main memory, or the GPU's where it computes on one."""
    free_disk_bytes: int
    """Where the workspace lies."""


def measure_cpu_flops(*, seconds: float = 1.0) -> float:
    """Multiply fp32 matrices for a moment and return the best speed seen [FLOP/s].

    The best, not the mean: what else runs now says nothing about the hour that training will take. NumPy's
    linear algebra and PyTorch's use the same vector units and threads and come within some percent.
    """
    import numpy as np

    a = np.ones((_SIZE, _SIZE), dtype=np.float32)
    b = np.ones((_SIZE, _SIZE), dtype=np.float32)
    out = np.empty_like(a)
    np.matmul(a, b, out=out)  # threads are started by the first product
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - started)
    return 2 * _SIZE**3 / best


@cache
def cpu_flops() -> float:
    """Return what :func:`measure_cpu_flops` says, measured once in a process [FLOP/s]."""
    return measure_cpu_flops()


def free_disk_bytes(folder: Path) -> int:
    """Return the space left where ``folder`` is, or would be [bytes]."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free
