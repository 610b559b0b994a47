"""A circuit breaker: an engine that fails again and again is left alone, then tried with one request.

Own, and not ``pybreaker`` or ``purgatory``: both count what a function or a block raised, and an attempt here
begins in one thread, answers in another and is over for the breaker at its first token.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.errors import CircuitOpenError

State = Literal["closed", "half_open", "open"]


class BreakerSettings(Settings):
    """When an engine, or one of several servers behind it, that fails is left alone for a while."""

    failures: int = Field(default=5, ge=1)
    """Failures in a row after which no request is sent there [count]."""
    open_s: float = Field(default=10.0, gt=0)
    """How long it is left alone before it is tried again, and between two such tries [s]."""


class Circuit(NamedTuple):
    """How a breaker stands."""

    state: State
    failures: int
    """In a row [count]."""
    reason: str | None
    """The newest failure; None after a success."""


class CircuitBreaker:
    """Closed while requests succeed; open after failures in a row; half-open while one tries it again.

    A try that comes to no end counts as none: after as long again, another may.

    Args:
        name: Of what may fail, for messages.
        settings: When it opens, and for how long.
        clock: Seconds that only rise.
    """

    def __init__(
        self, name: str, settings: BreakerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._failures = 0
        self._reason: str | None = None
        self._next_try = 0.0

    @property
    def circuit(self) -> Circuit:
        """How it stands."""
        with self._lock:
            return Circuit(self._state, self._failures, self._reason)

    def admit(self) -> None:
        """Let a request through.

        Raises:
            CircuitOpenError: It is left alone now; says since which failure, and for how long.
        """
        with self._lock:
            if self._state == "closed":
                return
            left = self._next_try - self._clock()
            if left > 0:
                raise CircuitOpenError(
                    f"{self._name} failed {self._failures} times in a row and is left alone: {self._reason}",
                    hint="try again shortly",
                    retry_after_s=max(1, math.ceil(left)),
                )
            self._state = "half_open"
            self._next_try = self._clock() + self._settings.open_s

    def succeed(self) -> None:
        """Note that it answered a request."""
        with self._lock:
            self._state, self._failures, self._reason = "closed", 0, None

    def fail(self, reason: str, *, sure: bool = False) -> None:
        """Note that it failed a request.

        Args:
            reason: How, for messages.
            sure: Whether it is known to be away, so that no more failures are waited for.
        """
        with self._lock:
            self._failures += 1
            self._reason = reason
            if sure or self._state == "half_open" or self._failures >= self._settings.failures:
                self._state = "open"
                self._next_try = self._clock() + self._settings.open_s
