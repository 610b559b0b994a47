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


def free_memory_bytes(*, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that a new process can have, within a container's own limit [bytes]; 0 if unknown."""
    available = 1024 * _field(proc / "meminfo", "MemAvailable:")
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is not None and used is not None:
        # Cached files count as used there and are given back on demand.
        left = max(0, limit - used + _field(cgroup / "memory.stat", "inactive_file"))
        return min(available, left) if available else left
    return available


def free_disk_bytes(folder: Path) -> int:
    """Return the space left where ``folder`` is, or would be [bytes]."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def _field(path: Path, name: str) -> int:
    """Return the number behind ``name`` in a file with a name and a number a line; 0 where there is none."""
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _number(path: Path) -> int | None:
    """Return the number in a control file; None where there is no such file or no limit (``max``)."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
