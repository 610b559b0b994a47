"""Run a command that ends with whoever started it, whatever ended that: ``watchdog.py FD COMMAND…``.

The starter holds the other end of the pipe FD and is this process's parent; when the pipe closes or the
parent is another, which a ``kill -9`` brings about too, the command and all that it started are ended. A file
of its own, run without the package: it has to start in a moment and to need nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_GRACE_S = 10.0
_LOOK_S = 1.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status, 128 and the signal's number where one ended it."""
    pipe, command, starter = int(arguments[0]), arguments[1:], os.getppid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # grandchildren whose parent ends become ours, and are ended too
    try:
        child = subprocess.Popen(command, start_new_session=True, preexec_fn=_end_with_watchdog)
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}\n")
        return 127
    ended = _ended(child.pid)
    while child.poll() is None and os.getppid() == starter:
        if pipe in select.select([pipe, *ended], [], [], _LOOK_S)[0]:
            break
    _end(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _ended(pid: int) -> list[int]:
    """Return a descriptor that can be read once the child has ended; none where the system has none."""
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the command's process group, then everything that is left of what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    until = time.monotonic() + _GRACE_S
    while (left := _children()) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def _end_with_watchdog() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    """Set what Linux has; elsewhere the pipe alone has to do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
