"""The places of calls in flight: as many as there may be, and who gives theirs up for whom."""

from __future__ import annotations

from tunery.core.errors import OverloadError, ResourceError
from tunery.pipeline.gateway.answer import Running
from tunery.traffic.fair_queue import Flow
from tunery.traffic.shedding import Pace, to_shed


class Place:
    """One call's place, from its arrival to its end."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.running: Running | None = None
        """Its call, once that is started."""
        self.refusal: ResourceError | None = None
        """Why it is not to be answered, where it is not."""

    @property
    def waits(self) -> bool:
        """Whether no engine has any of it yet."""
        return self.refusal is None and (self.running is None or not self.running.is_handed_over)

    def begin(self, running: Running) -> None:
        """Note the call that is started for it."""
        self.running = running
        if self.refusal is not None:
            running.cut(self.refusal)

    def refuse(self, error: ResourceError) -> None:
        """End its call, started or not, with an error."""
        self.refusal = error
        if self.running is not None:
            self.running.cut(error)


class Places:
    """All of them; used in the event loop alone.

    Args:
        most: Calls in flight at once [count].
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[Place, None] = {}
        self._pace = Pace()

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, flow: Flow) -> Place:
        """Return a place for a call.

        Raises:
            OverloadError: There is none, and no call that waits gives its own up for this one; says when to
                come again.
        """
        there = [place for place in self._taken if place.refusal is None] if self._is_full else []
        if len(there) >= self._most:
            waiting = [place for place in there if place.waits]
            running = [place.flow for place in there if not place.waits]
            given_up = to_shed([place.flow for place in waiting], running, flow)
            error = OverloadError(
                f"{len(there)} requests are being answered or wait for it, and that is the limit",
                hint="try again shortly",
                retry_after_s=self._pace.promise(),
            )
            if given_up is None:
                raise error
            waiting[given_up].refuse(error)
        place = Place(flow)
        self._taken[place] = None
        return place

    def leave(self, place: Place) -> None:
        """Give a place back; the second time, do nothing."""
        if self._taken.pop(place, place) is None:
            self._pace.end(busy=bool(self._taken))

    def cut(self, error: ResourceError) -> None:
        """End every call with an error."""
        # Those that wait first, or the end of one that runs would give another its turn.
        for place in sorted(self._taken, key=lambda place: not place.waits):
            place.refuse(error)

    @property
    def _is_full(self) -> bool:
        return len(self._taken) >= self._most
