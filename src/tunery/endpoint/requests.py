"""Requests: a request's answer, from the journal or from the endpoint, within the budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from tunery.core.errors import ResourceError, TuneryError
from tunery.core.ids import canonical_json, sha256_text
from tunery.core.progress import Progress
from tunery.endpoint.budget import Amount, Budget, BudgetSpent, Limits
from tunery.endpoint.client import Endpoint, Line, Turns, prompt_ceiling
from tunery.endpoint.config import EndpointConfig, MaxTokensField
from tunery.endpoint.connection import Pace, Rate, Transient
from tunery.endpoint.journal import Journal, PaidAnswer

_FAILURES_IN_A_ROW = 3
_POLL_S = 0.2


def request_key(config: EndpointConfig, about: object) -> str:
    """Return the key of a request: what it is about, who answers, and how the answer is drawn.

    Args:
        config: Who answers. Where the model lives does not count: it may move while a file grows.
        about: JSON-ready; task, seed rows, index and prompt version.
    """
    return sha256_text(canonical_json([config.model, sampling(config), about]))[:32]


def sampling(config: EndpointConfig) -> dict[str, object]:
    """Return the settings by which an answer is drawn."""
    return config.model_dump(mode="json", include={"temperature", "top_p", "max_tokens", "extra"})


class Call:
    """The requests of one call of a command, what came of them, and whether it is any use going on.

    Args:
        limits: What the requests may cost together.
        journal: Of all calls with the same output.
        now: The clock.
        should_stop: Asked several times a second; once it says yes, nothing new is sent.
        patience: Requests in a row without an answer after which the endpoint is given up; None for never.
        line: Opens what endpoints are reached by; None has each open its own.
    """

    def __init__(
        self,
        limits: Limits,
        journal: Journal,
        now: Callable[[], datetime],
        should_stop: Callable[[], bool],
        *,
        patience: int | None = _FAILURES_IN_A_ROW,
        line: Callable[[], Line] | None = None,
    ) -> None:
        self._line = line
        self.journal = journal
        self.budget = Budget(limits, journal.spent)
        self._patience = patience
        self._now = now
        self._should_stop = should_stop
        self.requesters: list[Requester] = []
        """One for each endpoint, while the call runs."""
        self.running: dict[asyncio.Task[None], int] = {}
        """Task to the rows expected of it at most."""
        self.bought = 0
        """Answers paid for in this call [count]."""
        self.retries = 0
        """Attempts beyond the first of each request [count]."""
        self.budget_spent = False
        """Whether a request was left out because the budget did not pay for it."""
        self.failed = 0
        """Requests that no attempt brought an answer to [count]."""
        self.failures = 0
        """Those in a row [count]."""
        self.reasons: dict[str, str] = {}
        """Key of each of them to why its last attempt failed."""
        self._error: TuneryError | None = None
        self._closing = asyncio.Event()

    def run(self, endpoints: Sequence[EndpointConfig], step: Callable[[], None], progress: Progress) -> None:
        """Take steps, which look at what has ended and start what may be sent, until nothing is in flight.

        Raises:
            TuneryError: Only the user can fix what an endpoint refuses.
            KeyboardInterrupt: The call was to stop; what was in flight has been waited for.
        """
        interrupted = asyncio.run(self._run(endpoints, step))
        if interrupted:
            kept = f"{self.journal.answers:,} answers ({self.journal.spent.tokens:,} tokens)"
            progress.event(f"{kept} are kept in {self.journal.path}; type the same command again to go on")
            raise KeyboardInterrupt
        if self._error is not None:
            raise self._error

    async def _run(self, endpoints: Sequence[EndpointConfig], step: Callable[[], None]) -> bool:
        """Return whether the call was to stop before its end."""
        interrupted = False
        async with contextlib.AsyncExitStack() as stack:
            for config in endpoints:
                endpoint = Endpoint(config, self._now, self._line() if self._line else None)
                await stack.enter_async_context(endpoint.client)
                self.requesters.append(Requester(endpoint, self))
            try:
                while True:
                    for ended in [t for t in self.running if t.done()]:
                        del self.running[ended]
                        ended.result()
                    if not interrupted and self._should_stop():
                        interrupted = True
                        self._closing.set()
                    step()
                    if not self.running:
                        return interrupted
                    await asyncio.wait(self.running, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for running in self.running:
                    running.cancel()
                await asyncio.gather(*self.running, return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None], rows: int) -> None:
        """Begin work of which at most so many rows come."""
        self.running[asyncio.create_task(work)] = rows

    @property
    def closed(self) -> bool:
        """Whether nothing new is sent; what is in flight may still come back."""
        return self._closing.is_set()

    def fail(self, error: TuneryError) -> None:
        """Send nothing new after what only the user can fix."""
        self._error = self._error or error
        self._closing.set()

    def note_failure(self, key: str, failure: Transient) -> None:
        """Count a request that no attempt brought an answer to."""
        self.failed += 1
        self.failures += 1
        self.reasons[key] = failure.reason

    @property
    def out_of_patience(self) -> bool:
        """Whether too many requests in a row brought no answer."""
        return self._patience is not None and self.failures >= self._patience

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless the call comes to its end before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)


class Requester:
    """Sends to one endpoint; many requests may be in flight at once, none is paid for twice."""

    def __init__(self, endpoint: Endpoint, call: Call) -> None:
        self.config = endpoint.config
        self._endpoint = endpoint
        self._call = call
        self._slots = asyncio.Semaphore(self.config.concurrency)
        self._rate = Rate(self.config.requests_per_minute, self.config.tokens_per_minute)
        self._pace = Pace(
            self.config.attempts,
            self.config.backoff_s,
            self.config.max_wait_s,
            hint="type the same command again after that time; what was paid for is kept",
        )

    @property
    def max_tokens_field(self) -> MaxTokensField:
        """What the endpoint calls the limit of an answer, as far as it has said."""
        return self._endpoint.max_tokens_field

    async def answer(
        self, key: str, turns: Turns, fields: Mapping[str, Any] = MappingProxyType({}), *, pay: bool = True
    ) -> PaidAnswer | None:
        """Return the answer to a request, or None after noting why there is none.

        Args:
            key: Of the request.
            turns: The prompt.
            fields: Further fields of the request, such as its ``tools``.
            pay: Whether it is bought; else it is only looked for among what earlier calls have paid for.
        """
        call = self._call
        answer = call.journal.find(key)
        if answer is None and not pay:
            return None
        try:
            answer = answer or await self._bought(key, turns, fields)
        except BudgetSpent:
            call.budget_spent = True
        except Transient as failure:
            if not call.closed:
                call.note_failure(key, failure)
                if call.out_of_patience:
                    reason = f"the endpoint does not answer, {call.failures} requests in a row: {failure}"
                    again = "type the same command again once it does; what was paid for is kept"
                    call.fail(ResourceError(reason, hint=again))
        except TuneryError as error:
            call.fail(error)
        else:
            call.failures = 0
        return answer

    async def _bought(self, key: str, turns: Turns, fields: Mapping[str, Any]) -> PaidAnswer:
        """Return the answer of the first attempt that brings one.

        Raises:
            BudgetSpent: There is not enough left for it.
            Transient: The last attempt failed too, or the call came to its end meanwhile.
            ConfigError: The endpoint refuses the request.
            ResourceError: The account is empty, or the endpoint asks for a longer pause than is allowed.
        """
        attempts = 0
        async with self._slots:
            while True:
                try:
                    return await self._once(key, turns, fields)
                except Transient as failure:
                    attempts += 1
                    wait = self._pace.after(failure, attempts)
                    if self._call.closed:
                        raise
                    await self._call.sleep(wait)
                    self._call.retries += 1

    async def _once(self, key: str, turns: Turns, fields: Mapping[str, Any]) -> PaidAnswer:
        """Make one attempt; whatever happens to it is in the journal and in the budget."""
        call, config = self._call, self.config
        prompt = prompt_ceiling([*turns, fields] if fields else turns)
        ceiling = Amount(prompt + config.max_tokens, config.usd(prompt, config.max_tokens))
        loop = asyncio.get_running_loop()
        while not call.closed and (left := self._pace.left()) > 0:
            await call.sleep(left)
        await call.budget.reserve(ceiling)
        spent = Amount(0, 0.0)
        share = None
        try:
            share = await self._rate.take(ceiling.tokens, call.sleep, lambda: call.closed)
            if call.closed:
                raise Transient("nothing was sent: the call is ending", maybe_billed=False)
            spent = ceiling  # until the opposite is known, also where this task is cancelled
            call.journal.sent(key, ceiling)
            try:
                started = loop.time()
                answer = await self._endpoint.attempt(turns, fields)
                answer = answer._replace(latency_ms=(loop.time() - started) * 1000)
            except Exception as error:
                if not (isinstance(error, Transient) and error.maybe_billed):
                    call.journal.unbilled(key)
                    spent = Amount(0, 0.0)
                raise
            call.journal.done(key, answer)
            answer = answer._replace(logprobs=None)  # they are in the journal, and large
            spent = answer.cost
        finally:
            if share is not None:
                self._rate.settle(share, spent.tokens)
            await call.budget.settle(ceiling, spent)
        call.bought += 1
        return answer
