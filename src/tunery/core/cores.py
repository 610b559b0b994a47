"""The cores of this machine: how many this process may use, and how many others leave it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_SPINS = "100000"
"""How often a thread that waits for the others of a product looks before it sleeps [count]: for some 100 µs.

GNU's OpenMP, which PyTorch brings, looks for milliseconds where nobody says otherwise. Beside another process
that keeps a core from the one that is waited for, all of that time is lost to it. Sleeping at once
(``OMP_WAIT_POLICY=PASSIVE``) costs a machine that is otherwise idle; a short look costs each of them less.
"""
_SAME_BITS = "AUTO,STRICT"
"""Intel's MKL: products are the same to the bit whatever the number of threads. For other makers' processors
the same words choose code of twenty years ago."""
_LOOK_S = 1.0
"""Time between two looks at what others use [s]."""


def prepare_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Choose how threads of one product wait for each other; must come before PyTorch is loaded.

    What the user has set stays.
    """
    if not environment.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        environment["GOMP_SPINCOUNT"] = _SPINS
    if is_intel():
        environment.setdefault("MKL_CBWR", _SAME_BITS)


def numbers_are_free(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Tell whether results are the same to the bit whatever the number of threads."""
    return environment.get("MKL_CBWR", "").endswith(",STRICT") and is_intel()


def is_intel(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether this is a processor of Intel's, as far as the system says."""
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as lines:
            return any("GenuineIntel" in line for _, line in zip(range(8), lines, strict=False))
    except OSError:
        return False


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the cores that this process may use: those it may run on, within its container's quota."""
    there = len(allowed_cores())
    try:
        granted, period = quota.read_text(encoding="ascii").split()
        return max(1, min(there, math.ceil(int(granted) / int(period))))
    except (OSError, ValueError):  # no container, or one without a quota ("max")
        return there


def threads_at_most(environment: Mapping[str, str] = os.environ) -> int:
    """Return the usable cores, or ``OMP_NUM_THREADS`` where the user set fewer."""
    wished = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    cores = usable_cores()
    return min(cores, int(wished)) if wished.isdecimal() and int(wished) > 0 else cores


def allowed_cores() -> frozenset[int]:
    """Return the numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


class ThreadChoice:
    """How many threads to compute with, by what other processes leave; for one thread's use.

    Args:
        most: Threads at most; where None all usable cores, or ``OMP_NUM_THREADS`` where the user set fewer.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most or threads_at_most()
        self.threads = self.most
        self._before = _Sample.now()
        self._wishes_for_more = 0

    def look(self, *, after_s: float = _LOOK_S) -> int:
        """Return the number of threads to use from here on; looks anew where the last look is long past.

        Falls as soon as others use about half a core or more; rises when two looks in a row find room, so
        that a process which works in bursts is not chased.
        """
        if time.monotonic() - self._before.at < after_s:
            return self.threads
        sample, before = _Sample.now(), self._before
        self._before = sample
        if sample.at - before.at > 20 * _LOOK_S:  # nothing was computed meanwhile: it tells of the past
            return self.threads
        self.threads = self._chosen(sample.left_by_others(before))
        return self.threads

    def _chosen(self, free: float) -> int:
        """Return the number of threads for ``free`` cores that others leave."""
        if free < self.threads - 0.45:
            self._wishes_for_more = 0
            return max(1, math.floor(free + 0.45))
        room = min(self.most, math.floor(free + 0.2))
        self._wishes_for_more = self._wishes_for_more + 1 if room > self.threads else 0
        return room if self._wishes_for_more >= 2 else self.threads


class _Sample:
    """What the cores and this process had done by one moment [s]."""

    def __init__(self, at: float, idle: float, own: float) -> None:
        self.at, self.idle, self.own = at, idle, own

    @classmethod
    def now(cls) -> _Sample:
        import psutil  # type: ignore[import-untyped]  # ships no types; takes longer to load than a command may

        every = psutil.cpu_times(percpu=True)
        cores = [every[core] for core in allowed_cores() if core < len(every)]
        idle = sum(times.idle + getattr(times, "iowait", 0.0) for times in cores)
        return cls(time.monotonic(), idle, time.process_time())

    def left_by_others(self, before: _Sample) -> float:
        """Return the cores that other processes left since ``before``."""
        elapsed = max(self.at - before.at, 1e-3)
        return (self.idle - before.idle + self.own - before.own) / elapsed
