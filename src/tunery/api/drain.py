"""The time between the signal to stop and the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_CUT = 0.7
"""Share of the grace time after which answers that still run are cut short."""
_CANCEL = 0.85
"""Share of it after which whatever is left of them is cancelled; the rest is for jobs and records."""


class Drain:
    """Ends a server in order, and within its time.

    New requests are refused from the signal on, uploads and jobs stop at once, answers that run may go on for
    a while, and each that cannot end by then is told so.

    Args:
        grace_s: Time from the signal to the end of the process at most [s].
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._ends_at: float | None = None
        self._at_once: list[Callable[[], None]] = []
        self._in_the_end: list[Callable[[], None]] = []

    @property
    def draining(self) -> bool:
        """Whether the server is about to end."""
        return self._ends_at is not None

    @property
    def cancel_s(self) -> float:
        """When what still answers is cancelled, from the signal on [s]."""
        return _CANCEL * self.grace_s

    @property
    def left_s(self) -> float:
        """What is left of the grace time [s]."""
        return self.grace_s if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def at_once(self, step: Callable[[], None]) -> None:
        """Call ``step`` in the event loop when the end begins."""
        self._at_once.append(step)

    def in_the_end(self, step: Callable[[], None]) -> None:
        """Call ``step`` in the event loop when answers have had their time."""
        self._in_the_end.append(step)

    def begin(self) -> None:
        """Begin to end; called in the event loop, once."""
        if self.draining:
            return
        self._ends_at = time.monotonic() + self.grace_s
        for step in self._at_once:
            step()
        loop = asyncio.get_running_loop()
        for step in self._in_the_end:
            loop.call_later(_CUT * self.grace_s, step)


def end_process_after(seconds: float, number: int) -> None:
    """End this process at a time, whatever it is doing then.

    A thread that computes cannot be stopped, and one inside a library that holds the interpreter's lock stops
    the thread that would end the process too: then the system's own alarm does, two seconds later.

    Args:
        seconds: From now on [s].
        number: The signal that asked for it.
    """

    def end() -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(
                "the server has ended in the middle of work that took too long; jobs that were queued or "
                "running go on when it is started again\n"
            )
            sys.stderr.flush()
        os._exit(128 + number)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 2)
