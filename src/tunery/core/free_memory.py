"""How much main memory a process can still have."""

from __future__ import annotations

from pathlib import Path


def free_memory_bytes(*, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that a new process can have, within a container's own limit [bytes]; 0 if unknown."""
    available = 1024 * _field(proc / "meminfo", "MemAvailable:")
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is not None and used is not None:
        # Cached files count as used there and are given back on demand.
        left = max(0, limit - used + _field(cgroup / "memory.stat", "inactive_file"))
        return min(available, left) if available else left
    return available


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
