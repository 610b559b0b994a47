"""The gateway: calls in, answers and their records out."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from tunery.core.engine import TokenEvent
from tunery.core.errors import ResourceError
from tunery.pipeline.gateway.answer import Events, Running, logged, record_of
from tunery.pipeline.gateway.bases import BasePool
from tunery.pipeline.gateway.call import CompletionCall
from tunery.pipeline.gateway.form import AnswerForms
from tunery.pipeline.gateway.log import RequestLog
from tunery.pipeline.gateway.names import resolve
from tunery.pipeline.gateway.start import Arrival, FailedStart, Listen, Means, RoutedCall, StartedCall, start
from tunery.store.workspace import Workspace
from tunery.traffic.limits.meter import Meter, Refusal
from tunery.traffic.limits.room import answer_headers

_START_THREADS = 8
"""Calls that are resolved, rendered and queued at the same time [count]."""

_HANDING_THREADS = 4
"""Requests that are given to engines at the same time [count]."""


class Gateway:
    """Answers calls with whatever version is meant at the moment each begins.

    Args:
        log: Takes a record of every call.
        max_in_flight: Calls answered at once [count]; more are refused, and clients come back by themselves.
        meter: Lets calls in and books them; bounds nothing but what records say where None.
    """

    def __init__(
        self,
        workspace: Workspace,
        bases: BasePool,
        log: RequestLog,
        *,
        max_in_flight: int,
        meter: Meter | None = None,
    ) -> None:
        self.workspace = workspace
        self.bases = bases
        self.log = log
        self.meter = meter or Meter(workspace)
        self._forms = AnswerForms()
        self._max_in_flight = max_in_flight
        self._open: set[_Slot] = set()
        # Of its own, so that calls wait for nothing but each other; what takes long waits for its like.
        self._starting = ThreadPoolExecutor(_START_THREADS, "start")
        self._starting_large = ThreadPoolExecutor(1, "start-large")
        self._handing = ThreadPoolExecutor(_HANDING_THREADS, "hand-over")

    @property
    def in_flight(self) -> int:
        """Calls being answered [count]."""
        return len(self._open)

    async def start(self, call: CompletionCall, *, stream: bool) -> Running:
        """Resolve, render and queue a call; everything that can be refused is refused here.

        Raises:
            NotFoundError: No such model.
            ConfigError: The conversation does not fit.
            ResourceError: Too many calls at once, or no record of it could be kept.
        """
        self.log.check()
        if self.in_flight >= self._max_in_flight:
            raise ResourceError(
                f"{self.in_flight} requests are being answered and that is the limit",
                hint="try again shortly",
            )
        slot = _Slot()
        self._open.add(slot)
        with ExitStack() as unless_started:
            unless_started.callback(self._open.discard, slot)
            arrival = Arrival(self.workspace.clock.now(), time.perf_counter())
            loop = asyncio.get_running_loop()
            events: Events | None = asyncio.Queue() if stream else None
            listen = _listener(loop, events) if events is not None else None
            pool = self._starting_large if call.is_large else self._starting
            queued = pool.submit(self._start, call, arrival, listen)
            work = asyncio.wrap_future(queued)
            try:
                outcome = await asyncio.shield(work)
            except asyncio.CancelledError:
                # The client left while the thread was at work; what that starts is ended once it is there.
                unless_started.pop_all()
                work.add_done_callback(partial(self._abandon, slot))
                queued.cancel()
                raise
            _tell_room(outcome)
            if isinstance(outcome, Refusal):  # nobody failed: no version's record, no tally of a canary
                raise outcome.error
            if isinstance(outcome, FailedStart):
                # What the client is told is why its call failed, whatever becomes of the record.
                with logged(f"the record of {call.id}"):
                    self.log.write(record_of(outcome.routed, "error"))
                raise outcome.error
            running = slot.running = Running(
                outcome, events, partial(self._open.discard, slot), self.log.write
            )
            unless_started.pop_all()
        return running

    def cut(self) -> None:
        """End the calls that are being answered, each with an error that says why: the server stops."""
        for slot in list(self._open):
            if slot.running is not None:
                slot.running.cut("the server is shutting down")

    def close(self) -> None:
        """Take no more calls; those that wait to be started never are."""
        for pool in (self._starting, self._starting_large, self._handing):
            pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, call: CompletionCall, arrival: Arrival, listen: Listen | None) -> Started:
        """Do the blocking part of the start; runs in a thread."""
        workspace = self.workspace.of(call.caller.project)
        target = resolve(workspace, self.bases.default, call.model, call.subject)
        routed = RoutedCall(call, target, self.bases.get(target.base), arrival)
        form = self._forms.check(target.version, call.constraint)
        return start(routed, form, listen, Means(self.meter, self._handing))

    def _abandon(self, slot: _Slot, work: asyncio.Future[Started]) -> None:
        """End what a thread started for a client that has left."""
        with logged("the end of a call whose client had left"), ExitStack() as at_the_end:
            at_the_end.callback(self._open.discard, slot)
            if work.cancelled() or work.exception() is not None:  # it never became known who would answer
                return
            outcome = work.result()
            if isinstance(outcome, StartedCall):
                Running(outcome, None, partial(self._open.discard, slot), self.log.write).end(None)
            elif isinstance(outcome, FailedStart):
                self.log.write(record_of(outcome.routed, "cancelled"))


Started = StartedCall | FailedStart | Refusal


class _Slot:
    """One of the places of calls being answered."""

    running: Running | None = None
    """Its call, once that is started."""


def _tell_room(outcome: Started) -> None:
    """Have the request that is being answered tell how its rate limits stand."""
    headers = answer_headers.get()
    if headers is not None:
        headers.update(outcome.hold.headers if isinstance(outcome, StartedCall) else outcome.headers)


def _listener(loop: asyncio.AbstractEventLoop, events: Events) -> Listen:
    """Return what passes tokens on to the event loop, which at shutdown may be gone already."""

    def listen(choice: int, token: TokenEvent | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, (choice, token))

    return listen
