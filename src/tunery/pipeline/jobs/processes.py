"""Which machine and process a worker is, whether it still runs, and words for how it ended."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
from pathlib import Path

from tunery.core.ids import sha256_text

_TAIL = 2_000
"""Characters of a dead worker's output that are shown [count]."""


@functools.cache
def machine_identity() -> str:
    """Return ``host:boot``: this machine since it was last started, and this container of it.

    A host's name alone is shared by cloned machines, and process numbers of another machine or of another
    container say nothing here.
    """
    seen = []
    with contextlib.suppress(OSError):
        seen.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        seen.append(os.readlink("/proc/self/ns/pid"))
    return f"{socket.gethostname()}:{sha256_text(' '.join(seen))[:8]}"


def process_identity(pid: int) -> str:
    """Return ``pid-start``, which no later process shares; ``pid-gone`` when there is no such process.

    The number alone is not enough: in a container the server is process 1 every time. Where the system has
    no ``/proc`` the start is unknown, and a job waits for its lease instead.
    """
    try:
        # The name in brackets may hold spaces; the start time is the 20th field behind it.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
        return f"{pid}-gone" if fields[0] == "Z" else f"{pid}-{fields[19]}"
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return f"{pid}-gone"
    except OSError:
        pass
    return f"{pid}-0"


def this_process() -> str:
    """Return ``machine/process``, which no other process ever shares."""
    return f"{machine_identity()}/{process_identity(os.getpid())}"


def is_gone(named: str) -> bool:
    """Tell whether ``machine/process`` (more may follow) was one of this machine's and has ended."""
    machine, _, rest = named.partition("/")
    identity = rest.partition("/")[0]
    pid = identity.partition("-")[0]
    return machine == machine_identity() and pid.isdecimal() and process_identity(int(pid)) != identity


def kill_if_ours(named: str) -> bool:
    """Kill the process that ``machine/process`` means where it runs on this machine; say whether it did."""
    machine, _, identity = named.strip().partition("/")
    pid = identity.partition("-")[0]
    if machine != machine_identity() or not pid.isdecimal() or process_identity(int(pid)) != identity:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(int(pid), signal.SIGKILL)
        return True
    return False


def kills_for_memory() -> int:
    """Return how many processes the kernel has killed for want of memory so far [count].

    The control group's own count where there is one (a container, a service), else the whole machine's.
    """
    for counts in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = counts.read_text(encoding="ascii").splitlines()
            return int({name: n for name, _, n in (line.partition(" ") for line in lines)}["oom_kill"])
    return 0


def how_it_ended(code: int, *, memory_ran_out: bool = False) -> str:
    """Return words for a worker's exit code, as :class:`subprocess.Popen` gives it.

    Args:
        code: Negative for a signal.
        memory_ran_out: Whether :func:`kills_for_memory` has grown meanwhile.

    >>> how_it_ended(1), how_it_ended(-15)
    ('exit code 1', 'signal SIGTERM')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
    if -code == signal.SIGKILL and memory_ran_out:
        return f"signal {name}: the kernel killed it, because the memory of its machine or container ran out"
    if -code == signal.SIGKILL:
        # Nobody here sends it to a worker that works; the kernel does when memory ends.
        return (
            f"signal {name} from outside, most likely because the machine or its container ran out of memory"
        )
    if -code == signal.SIGBUS:
        return f"signal {name}, most likely because a file it had mapped was cut short or the disk is full"
    return f"signal {name}"


def last_words(log: Path, start: int) -> str:
    """Return the end of what a worker wrote to its log behind byte ``start``; empty when it wrote nothing."""
    try:
        with log.open("rb") as stream:
            stream.seek(start)
            return stream.read().decode("utf-8", "replace")[-_TAIL:].strip()
    except OSError:
        return ""
