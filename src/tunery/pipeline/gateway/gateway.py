"""The gateway: calls in, answers and their records out."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from tunery.core.engine import TokenEvent
from tunery.core.errors import ResourceError, TuneryError
from tunery.pipeline.gateway.answer import Events, Running, logged, record_of
from tunery.pipeline.gateway.bases import BasePool, EngineState
from tunery.pipeline.gateway.call import CompletionCall
from tunery.pipeline.gateway.fallback import Course, Failed, Retry, as_attempt, stand_in
from tunery.pipeline.gateway.form import AnswerForms
from tunery.pipeline.gateway.gone import GoneNotes
from tunery.pipeline.gateway.log import RequestLog
from tunery.pipeline.gateway.names import ROUTED_BY, Route, Target, route_of
from tunery.pipeline.gateway.places import Place, Places
from tunery.pipeline.gateway.start import (
    Arrival,
    FailedStart,
    Listen,
    Means,
    RoutedCall,
    StartedCall,
    ToLoad,
    scope_of,
    start,
)
from tunery.store.database import Database
from tunery.store.workspace import Workspace
from tunery.traffic.blame import blames_engine
from tunery.traffic.config import TrafficSettings
from tunery.traffic.fair_threads import FairThreads
from tunery.traffic.limits.meter import Meter, Refusal
from tunery.traffic.limits.room import answer_headers
from tunery.traffic.recent import Recent

_START_THREADS = 8
"""Calls that are resolved, rendered and queued at the same time [count]."""
_LARGE_THREADS = 3
"""Of those whose start takes long [count]."""
_LOADING_THREADS = 8
"""Of those that wait for their adapter to be loaded [count]: others do not wait behind them."""
_HANDING_THREADS = 4
"""Requests that are given to engines at the same time [count]."""
_RETRY_S = (0.05, 0.2)
"""Shortest and longest pause before a failed request is tried again [s]."""


class Gateway:
    """Answers calls with whatever version is meant at the moment each begins.

    Args:
        log: Takes a record of every call.
        max_in_flight: Calls in flight at once [count]; where there are more, some are refused, and clients
            come back by themselves.
        meter: Lets calls in and books them; bounds nothing but what records say where None.
        traffic: How long calls may take, what is tried again, and who answers instead.
    """

    def __init__(
        self,
        workspace: Workspace,
        bases: BasePool,
        log: RequestLog,
        *,
        max_in_flight: int,
        meter: Meter | None = None,
        traffic: TrafficSettings | None = None,
    ) -> None:
        self.workspace = workspace
        self.bases = bases
        self.log = log
        self.meter = meter or Meter(workspace)
        self._traffic = traffic or TrafficSettings()
        self._forms = AnswerForms()
        self._routes: Recent[tuple[str, str], Route] = Recent(
            "names", self._traffic.cache, partial(_changes, workspace.database)
        )
        self._places = Places(max_in_flight)
        # Of its own, so that calls wait for nothing but each other; what takes long waits for its like.
        self._starting = ThreadPoolExecutor(_START_THREADS, "start")
        self._starting_large = FairThreads(_LARGE_THREADS, "start-large")
        self._loading = ThreadPoolExecutor(_LOADING_THREADS, "start-loading")
        self._handing = ThreadPoolExecutor(_HANDING_THREADS, "hand-over")
        self._gone = GoneNotes(workspace, self._starting)

    @property
    def in_flight(self) -> int:
        """Calls being answered [count]."""
        return len(self._places)

    def engines(self) -> list[EngineState]:
        """Return how the engines stand that are open."""
        return [base.state for base in self.bases.served]

    async def start(self, call: CompletionCall, *, stream: bool) -> Running:
        """Resolve, render and queue a call, and wait for its first token, or for all of it.

        Until then nothing of it was sent, so everything that can be refused is refused here, and what fails
        is tried again or answered by another.

        Raises:
            NotFoundError: No such model.
            ConfigError: The conversation does not fit.
            OverloadError: Too many calls at once, or its turn did not come in time.
            OverdueError: Nothing of it came in time.
            ResourceError: The engine fails, or no record of it could be kept.
        """
        self.log.check()
        place = self._places.take(call.flow)
        with ExitStack() as unless_started:
            unless_started.callback(self._places.leave, place)
            began = _Began(call, Arrival(self.workspace.clock.now(), time.perf_counter()), place, stream)
            course = Course(self._traffic, call.model)
            outcome = await self._try(began, None, unless_started)
            while isinstance(outcome, Failed):
                self._gone.take(outcome)
                retry = None if place.refusal else course.next(outcome)
                if retry is None:
                    # What the client gets is why its call failed, whatever becomes of the record.
                    with logged(f"the record of {call.id}"):
                        self.log.write(outcome.record)
                    raise course.error(outcome)
                outcome = await self._try(began, retry, unless_started)
            unless_started.pop_all()
            _tell(outcome.headers)
            return outcome

    async def _try(self, began: _Began, retry: Retry | None, unless_started: ExitStack) -> Running | Failed:
        """Have one engine begin a call; where a retry has nobody for it, return the failure that it is of."""
        if retry is not None and retry.is_again:
            await asyncio.sleep(random.uniform(*_RETRY_S))  # noqa: S311 - nothing to guess
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        events: Events | None = asyncio.Queue() if began.stream else None
        listen = _listener(loop, events, begun)
        if retry is None and self._waits_for_nothing(began.call):
            outcome = self._start(began, listen, None)
        else:
            outcome = await self._started(began, listen, retry, unless_started)
        if isinstance(outcome, ToLoad):
            outcome = await self._started(began, listen, retry, unless_started, loading=True)
        if isinstance(outcome, ToLoad):
            raise AssertionError("a call that may load its adapter has loaded it")
        if isinstance(outcome, Failed):
            return outcome
        _tell(outcome.hold.headers if isinstance(outcome, StartedCall) else outcome.headers)
        if isinstance(outcome, Refusal):  # nobody failed: no version's record, no tally of a canary
            if retry is not None:
                return retry.failed
            raise outcome.error
        if retry is not None and not retry.is_again:  # the failure is its own, and the answer another's
            with logged(f"the record of a failed attempt at {began.call.id}"):
                self.log.write(as_attempt(retry.failed, self.workspace.clock.now()))
        if isinstance(outcome, FailedStart):
            ours = not isinstance(outcome.error, TuneryError)  # a fault in reading the request, say
            if outcome.routed.opened is not None and blames_engine(outcome.error) and not ours:
                outcome.routed.base.breaker.fail(str(outcome.error))
            return Failed(outcome.routed, outcome.error, record_of(outcome.routed, "error"))
        running = Running(outcome, events, begun, partial(self._places.leave, began.place), self.log.write)
        began.place.begin(running)
        return await self._begun(running)

    async def _started(
        self,
        began: _Began,
        listen: Listen,
        retry: Retry | None,
        unless_started: ExitStack,
        *,
        loading: bool = False,
    ) -> Started:
        """Have a thread start a call."""
        begin = partial(self._start, began, listen, retry, loading=loading)
        if loading:
            queued = self._loading.submit(begin)
        elif began.call.is_large:
            queued = self._starting_large.submit(began.call.flow, begin)
        else:
            queued = self._starting.submit(begin)
        work = asyncio.wrap_future(queued)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The client left while the thread was at work; what that starts is ended once it is there.
            unless_started.pop_all()
            work.add_done_callback(partial(self._abandon, began.place))
            queued.cancel()
            raise

    async def _begun(self, running: Running) -> Running | Failed:
        """Wait until the first byte of a call can be sent."""
        now = asyncio.get_running_loop().time()
        whole_at = now + self._left_s(running)
        try:
            await running.begin(now + self._traffic.first_token_s, whole_at)
        except asyncio.CancelledError as gone:
            running.end(gone)
            raise
        except Exception as error:
            return Failed(running.routed, error, running.give_up(error))
        return running

    def _left_s(self, running: Running) -> float:
        most = min(self._traffic.total_s, running.call.timeout_s or self._traffic.total_s)
        return max(0.0, most - (time.perf_counter() - running.routed.arrival.ticks))

    def cut(self) -> None:
        """End the calls that are being answered, each with an error that says why: the server stops."""
        self._places.cut(ResourceError("the server is shutting down", hint="try again"))

    def close(self) -> None:
        """Take no more calls; those that wait to be started never are."""
        for pool in (self._starting, self._loading, self._handing):
            pool.shutdown(wait=False, cancel_futures=True)
        self._starting_large.shutdown()
        self._routes.close()

    def _start(self, began: _Began, listen: Listen, retry: Retry | None, *, loading: bool = False) -> Started:
        """Do the blocking part of the start; runs in a thread unless it waits for nothing.

        Args:
            loading: Whether it may wait for its adapter to be loaded.
        """
        call, instead = began.call, None
        if retry is None:
            target = self._resolve(call, call.model)
        else:
            other = stand_in(retry, partial(self._resolve, call))
            if other is None:
                return retry.failed
            target, instead = other, retry.instead
        routed = RoutedCall(call, target, began.arrival, None, instead)
        try:
            target.check()
            routed = routed._replace(opened=self.bases.get(target.base))
            if not loading and not routed.base.has(target.adapter):
                return ToLoad(routed)
            routed.base.breaker.admit()
        except Exception as error:
            return FailedStart(routed, error)
        form = self._forms.check(target.version, call.constraint)
        return start(routed, form, listen, Means(self.meter, self._handing))

    def _resolve(self, call: CompletionCall, name: str) -> Target:
        """Return what a name means to a caller."""
        project, default = call.caller.project, self.bases.default
        if name == default.name:
            return Target(default, None, None)
        look_up = partial(route_of, self.workspace.of(project), default, name)
        return self._routes.get((project, name), look_up).of(call.subject)

    def _waits_for_nothing(self, call: CompletionCall) -> bool:
        """Return whether a call can be started in the event loop: short, all known, its engine elsewhere.

        Of a call that only passes through, handing it from thread to thread would be most of the work.
        """
        default, name = self.bases.default, call.model
        route = None if name == default.name else self._routes.peek((call.caller.project, name))
        if not call.is_short or (route is None and name != default.name):
            return False
        target = Target(default, None, None) if route is None else route.of(call.subject)
        base = self.bases.peek(target.base)
        return (
            base is not None and base.relays(target.adapter) and not self.meter.waits(scope_of(call, target))
        )

    def _abandon(self, place: Place, work: asyncio.Future[Started]) -> None:
        """End what a thread started for a client that has left."""
        leave = partial(self._places.leave, place)
        with logged("the end of a call whose client had left"), ExitStack() as at_the_end:
            at_the_end.callback(leave)
            if work.cancelled() or work.exception() is not None:  # it never became known who would answer
                return
            outcome = work.result()
            if isinstance(outcome, StartedCall):
                Running(outcome, None, asyncio.Event(), leave, self.log.write).end(None)
            elif not isinstance(outcome, Refusal):
                self.log.write(record_of(outcome.routed, "cancelled"))


Started = StartedCall | FailedStart | Failed | Refusal | ToLoad
"""What a thread makes of a call; what failed before where nobody stands in for that."""


class _Began(NamedTuple):
    """A call that has its place."""

    call: CompletionCall
    arrival: Arrival
    place: Place
    stream: bool


def _call(work: Callable[..., object], *arguments: object) -> None:
    work(*arguments)


def _changes(database: Database) -> tuple[int, ...]:
    return tuple(database.changes[table] for table in ROUTED_BY)


def _tell(more: Mapping[str, str]) -> None:
    """Have the request that is being answered send headers with its answer."""
    headers = answer_headers.get()
    if headers is not None:
        headers.update(more)


def _listener(loop: asyncio.AbstractEventLoop, events: Events | None, begun: asyncio.Event) -> Listen:
    """Return what passes tokens on to the event loop, which at shutdown may be gone already."""
    told, here = False, threading.get_ident()

    def listen(choice: int, token: TokenEvent | None) -> None:
        nonlocal told
        if loop.is_closed() or (told and events is None):
            return
        # An engine elsewhere is listened to in the event loop itself.
        do = _call if threading.get_ident() == here else loop.call_soon_threadsafe
        if events is not None:
            do(events.put_nowait, (choice, token))
        if not told:
            told = True
            do(begun.set)

    return listen
