"""The gateway: calls in, answers and their records out."""

from __future__ import annotations

import asyncio
import time

from tunery.core.engine import TokenEvent
from tunery.core.errors import ResourceError
from tunery.core.rollout import RequestRecord
from tunery.pipeline.gateway.answer import Events, Running, record_of
from tunery.pipeline.gateway.bases import BasePool
from tunery.pipeline.gateway.call import CompletionCall
from tunery.pipeline.gateway.form import AnswerForms
from tunery.pipeline.gateway.log import RequestLog
from tunery.pipeline.gateway.names import resolve
from tunery.pipeline.gateway.start import Arrival, FailedStart, Listen, RoutedCall, StartedCall, start
from tunery.store.workspace import Workspace


class Gateway:
    """Answers calls with whatever version is meant at the moment each begins.

    Args:
        log: Takes a record of every call.
        max_in_flight: Calls answered at once [count]; more are refused, and clients come back by themselves.
    """

    def __init__(self, workspace: Workspace, bases: BasePool, log: RequestLog, *, max_in_flight: int) -> None:
        self.workspace = workspace
        self.bases = bases
        self.log = log
        self._forms = AnswerForms()
        self._max_in_flight = max_in_flight
        self.in_flight = 0
        """Calls being answered [count]."""

    async def start(self, call: CompletionCall, *, stream: bool) -> Running:
        """Resolve, render and queue a call; everything that can be refused is refused here.

        Raises:
            NotFoundError: No such model.
            ConfigError: The conversation does not fit.
            ResourceError: Too many calls at once.
        """
        if self.in_flight >= self._max_in_flight:
            raise ResourceError(
                f"{self.in_flight} requests are being answered and that is the limit",
                hint="try again shortly",
            )
        self.in_flight += 1
        arrival = Arrival(self.workspace.clock.now(), time.perf_counter())
        loop = asyncio.get_running_loop()
        events: Events | None = asyncio.Queue() if stream else None
        listen = _listener(loop, events) if events is not None else None
        work = loop.run_in_executor(None, self._start, call, arrival, listen)
        try:
            outcome = await asyncio.shield(work)
        except asyncio.CancelledError:
            # The client left while the thread was at work; what it starts is ended as soon as it is there.
            work.add_done_callback(self._abandon)
            raise
        except BaseException:
            self.in_flight -= 1
            raise
        if isinstance(outcome, FailedStart):
            self._done(record_of(outcome.routed, "error"))
            raise outcome.error
        return Running(outcome, events, self._done)

    def _start(
        self, call: CompletionCall, arrival: Arrival, listen: Listen | None
    ) -> StartedCall | FailedStart:
        """Do the blocking part of the start; runs in a thread."""
        target = resolve(self.workspace, self.bases.default, call.model, call.subject)
        routed = RoutedCall(call, target, self.bases.get(target.base), arrival)
        return start(routed, self._forms.check(target.version, call.constraint), listen)

    def _abandon(self, work: asyncio.Future[StartedCall | FailedStart]) -> None:
        if work.cancelled() or work.exception() is not None:  # it never became known who would answer
            self.in_flight -= 1
            return
        outcome = work.result()
        if isinstance(outcome, StartedCall):
            Running(outcome, None, self._done).end(None)
        else:
            self._done(record_of(outcome.routed, "cancelled"))

    def _done(self, record: RequestRecord) -> None:
        """Take the record of a call that ended."""
        self.in_flight -= 1
        self.log.write(record)


def _listener(loop: asyncio.AbstractEventLoop, events: Events) -> Listen:
    """Return what passes tokens on to the event loop, which at shutdown may be gone already."""

    def listen(choice: int, token: TokenEvent | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, (choice, token))

    return listen
