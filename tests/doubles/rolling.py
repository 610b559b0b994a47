"""Limits of an account as a source enforces them: requests and tokens in any minute, whenever it began."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Taken:
    """What one request counts."""

    at: float
    """When it was let in [s]."""
    tokens: int


@dataclass
class RollingLimits:
    """Lets in what no window of :attr:`window_s` has too much of, and counts what it turned away.

    A request counts its prompt and the longest answer it allows until it has ended, then what it used.
    """

    requests: int | None = None
    """In a window at most [count]."""
    tokens: int | None = None
    """In a window at most [count]."""
    window_s: float = 60.0
    refused: int = 0
    """Requests that were turned away [count]."""
    clock: Callable[[], float] = time.monotonic
    _taken: deque[Taken] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, tokens: int) -> Taken | float:
        """Return what a request counts, or the wait after which it may come again [s].

        Args:
            tokens: That it may use at most [count].
        """
        with self._lock:
            now = self.clock()
            while self._taken and self._taken[0].at <= now - self.window_s:
                self._taken.popleft()
            if (wait := self._wait(now, tokens)) is not None:
                self.refused += 1
                return wait
            self._taken.append(taken := Taken(now, tokens))
            return taken

    def settle(self, taken: Taken, tokens: int) -> None:
        """Count what a request used in place of what it might have used [count]."""
        with self._lock:
            taken.tokens = tokens

    def _wait(self, now: float, tokens: int) -> float | None:
        """Return when enough of the window has gone by, None where there is room [s]."""
        count, used = len(self._taken), sum(taken.tokens for taken in self._taken) if self.tokens else 0
        wait = None
        for taken in self._taken:
            over = self.requests is not None and count >= self.requests
            if not over and (self.tokens is None or used + tokens <= self.tokens):
                break
            wait, count, used = taken.at + self.window_s - now, count - 1, used - taken.tokens
        return wait
