"""The time of own hardware, shared among the calls that it answers at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SharedTime:
    """Splits time evenly among those who are present, so that shares add up to the time that anybody was.

    A virtual clock runs at ``1 / n`` while ``n`` calls are in flight; a call's share is what that clock
    passed meanwhile, whoever came and went.

    >>> ticks = iter([0.0, 10.0, 20.0, 30.0])
    >>> shared = SharedTime(lambda: next(ticks))
    >>> a = shared.enter(); b = shared.enter()
    >>> shared.leave(a), shared.leave(b)
    (15.0, 15.0)
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._guard = threading.Lock()
        self._present = 0
        self._at = 0.0
        self._virtual = 0.0

    def enter(self) -> float:
        """Begin to be present; returns what :meth:`leave` takes."""
        with self._guard:
            self._advance()
            self._present += 1
            return self._virtual

    def leave(self, entered: float) -> float:
        """End being present; returns the share of the time since [s]."""
        with self._guard:
            self._advance()
            self._present -= 1
            return self._virtual - entered

    def _advance(self) -> None:
        now = self._now()
        if self._present:
            self._virtual += (now - self._at) / self._present
        self._at = now
