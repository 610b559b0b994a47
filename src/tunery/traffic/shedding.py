"""Which request is refused where there are too many, and when to come again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from tunery.traffic.fair_queue import Flow

_SMOOTHING = 0.1
"""Weight of the newest pause between two ends in the mean pause."""
_LONGEST_S = 120.0
"""What OpenAI's clients wait for at most [s]."""


def to_shed(waiting: Sequence[Flow], running: Sequence[Flow], newcomer: Flow) -> int | None:
    """Return which waiting request gives way to a newcomer, None where the newcomer is refused.

    Of lower priority before all others; else one of the key that has most requests there for its weight,
    where that is not the newcomer's; of these the newest.

    Args:
        waiting: Whose requests wait for their turn, in order of arrival.
        running: Whose are being answered; they are never refused any more.
        newcomer: Whose the new one is.

    >>> to_shed([Flow("a"), Flow("b", priority=-1), Flow("a")], [], Flow("a"))
    1
    >>> to_shed([Flow("a"), Flow("a")], [], Flow("a")) is None
    True
    >>> to_shed([Flow("a"), Flow("a"), Flow("b")], [], Flow("b")) is None
    True
    >>> to_shed([Flow("a"), Flow("a"), Flow("a")], [], Flow("b"))
    2
    """
    lowest = min((flow.priority for flow in waiting), default=newcomer.priority)
    if lowest > newcomer.priority:
        return None
    there = Counter(flow.key for flow in (*waiting, *running))
    shares = {flow.key: there[flow.key] / flow.weight for flow in waiting if flow.priority == lowest}
    if lowest == newcomer.priority:
        own = (there[newcomer.key] + 1) / newcomer.weight
        shares = {key: share for key, share in shares.items() if key != newcomer.key and share > own}
    if not shares:
        return None
    most = max(shares.values())
    return max(
        n for n, flow in enumerate(waiting) if flow.priority == lowest and shares.get(flow.key) == most
    )


class Pace:
    """How fast places become free, and to whom one was promised.

    Used by one thread.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._pause_s = 1.0
        self._promised = 0.0

    def end(self, *, busy: bool) -> None:
        """Note that a request has ended.

        Args:
            busy: Whether others are there still; pauses without any tell nothing.
        """
        now = self._clock()
        if self._last is not None:
            self._pause_s += _SMOOTHING * (now - self._last - self._pause_s)
        self._last = now if busy else None

    def promise(self) -> float:
        """Return after how long a request that is refused now is to come again [s].

        Each that is refused is promised the place that becomes free behind those promised before.
        """
        now = self._clock()
        self._promised = max(self._promised, now) + self._pause_s
        if self._promised - now > _LONGEST_S:
            self._promised = now + _LONGEST_S
        return self._promised - now
