"""Requests: a request's answer, from the journal or from the endpoint, within the budget."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from datetime import datetime

from tunery.core.errors import ResourceError, TuneryError
from tunery.core.ids import canonical_json, sha256_text
from tunery.synthesise.budget import Amount, Budget, BudgetSpent
from tunery.synthesise.config import TeacherConfig
from tunery.synthesise.endpoint import Endpoint, Reply, Transient, Turns
from tunery.synthesise.journal import Journal, PaidAnswer

_FRAME_TOKENS = 64
"""What a chat template may add to the turns of a request [tokens]; bytes outnumber tokens by far anyhow."""
_FAILURES_IN_A_ROW = 3


class Unanswered(Exception):  # noqa: N818 - an outcome, counted by the caller
    """Every attempt failed; the last reason is the message."""


def request_key(config: TeacherConfig, about: object) -> str:
    """Return the key of a request: what it is about, who answers, and how the answer is drawn.

    Args:
        config: Who answers. Where the model lives does not count: it may move while a file grows.
        about: JSON-ready; task, seed rows, index and prompt version.
    """
    return sha256_text(canonical_json([config.model, sampling(config), about]))[:32]


def sampling(config: TeacherConfig) -> dict[str, object]:
    """Return the settings by which an answer is drawn."""
    return config.model_dump(mode="json", include={"temperature", "top_p", "max_tokens"})


class Requester:
    """Sends to one endpoint; many requests may be in flight at once, none is paid for twice.

    Args:
        endpoint: Open.
        journal: Open.
        budget: Shared by all requesters of a call.
        now: The clock.
    """

    def __init__(
        self, endpoint: Endpoint, journal: Journal, budget: Budget, now: Callable[[], datetime]
    ) -> None:
        self._endpoint = endpoint
        self._journal = journal
        self._budget = budget
        self._now = now
        self._slots = asyncio.Semaphore(endpoint.config.concurrency)
        self._not_before = 0.0
        self._closing = asyncio.Event()
        self.bought = 0
        """Answers paid for in this call [count]."""
        self.retries = 0
        """Attempts beyond the first of each request [count]."""

    def close(self) -> None:
        """Send nothing new; what is in flight may still come back."""
        self._closing.set()

    @property
    def closed(self) -> bool:
        """Whether nothing new is sent."""
        return self._closing.is_set()

    async def ask(self, key: str, turns: Turns) -> PaidAnswer:
        """Return the answer to a request.

        Raises:
            BudgetSpent: There is not enough left for it.
            Unanswered: All attempts failed, or the requester was closed meanwhile.
            ConfigError: The endpoint refuses the request.
            ResourceError: The account is empty, or the endpoint asks for a longer pause than is allowed.
        """
        known = self._journal.find(key)
        if known is not None:
            return known
        reason = ""
        async with self._slots:
            for attempt in range(self._endpoint.config.attempts):
                self.retries += attempt > 0
                try:
                    return await self._once(key, turns)
                except Transient as failure:
                    reason = failure.reason
                    last = attempt + 1 == self._endpoint.config.attempts
                    await self._pause(failure, attempt, last=last)
        raise Unanswered(reason)

    async def _once(self, key: str, turns: Turns) -> PaidAnswer:
        """Make one attempt; whatever happens to it is in the journal and in the budget."""
        config = self._endpoint.config
        prompt = prompt_ceiling(turns)
        ceiling = Amount(prompt + config.max_tokens, config.usd(prompt, config.max_tokens))
        await self._wait()
        await self._budget.reserve(ceiling)
        if self.closed:
            await self._budget.settle(ceiling, Amount(0, 0.0))
            raise Unanswered("nothing was sent: the call is ending")
        spent = ceiling  # until the opposite is known, also where this task is cancelled
        try:
            self._journal.sent(key, ceiling)
            try:
                reply = await self._endpoint.attempt(turns)
            except Exception as error:
                if not (isinstance(error, Transient) and error.maybe_billed):
                    self._journal.unbilled(key)
                    spent = Amount(0, 0.0)
                raise
            answer = self._priced(reply, prompt)
            self._journal.done(key, answer)
            spent = Amount(answer.prompt_tokens + answer.completion_tokens, answer.usd)
        finally:
            await self._budget.settle(ceiling, spent)
        self.bought += 1
        return answer

    def _priced(self, reply: Reply, prompt_ceiling: int) -> PaidAnswer:
        config = self._endpoint.config
        metered = reply.prompt_tokens is not None and reply.completion_tokens is not None
        prompt = prompt_ceiling if reply.prompt_tokens is None else reply.prompt_tokens
        completion = config.max_tokens if reply.completion_tokens is None else reply.completion_tokens
        return PaidAnswer(
            text=reply.text,
            finish=reply.finish,
            request_id=reply.request_id,
            endpoint=config.host,
            at=self._now().isoformat(timespec="seconds"),
            prompt_tokens=prompt,
            completion_tokens=completion,
            metered=metered,
            usd=config.usd(prompt, completion),
        )

    async def _pause(self, failure: Transient, attempt: int, *, last: bool) -> None:
        """Wait before the next attempt, and keep the other requests waiting where the endpoint says so.

        The wait is drawn from the whole range up to an exponentially growing end ('full jitter'), so that
        requests that failed together do not come back together.

        Source:
            Brooker (2015), Exponential Backoff and Jitter, AWS Architecture Blog.
        """
        config = self._endpoint.config
        if failure.wait_s is not None and failure.wait_s > config.max_wait_s:
            raise ResourceError(
                f"{failure.reason}; the endpoint asks to wait {failure.wait_s:,.0f} s",
                hint="type the same command again after that time; what was paid for is kept",
            )
        if failure.wait_s is not None:
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + failure.wait_s)
        if not last:
            end = min(config.max_wait_s, config.backoff_s * 2.0**attempt)
            await self._sleep(random.uniform(0, end))  # noqa: S311 - spreads load, guards nothing

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.closed and (left := self._not_before - loop.time()) > 0:
            await self._sleep(left)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, unless the call comes to its end before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)


class CallOutcome:
    """The requests of one call: counts those that came to nothing, and knows when it is no use going on."""

    def __init__(self) -> None:
        self.requesters: list[Requester] = []
        """Teacher and judge."""
        self.budget_spent = False
        """Whether a request was left out because the budget did not pay for it."""
        self.failed = 0
        """Requests that no attempt brought an answer to [count]."""
        self.error: TuneryError | None = None
        """What only the user can fix; nothing more is sent from then on."""
        self._failures = 0

    async def answer(self, requester: Requester, key: str, turns: Turns) -> PaidAnswer | None:
        """Return an answer, or None after noting why there is none."""
        try:
            answer = await requester.ask(key, turns)
        except BudgetSpent:
            self.budget_spent = True
        except Unanswered as failure:
            if not requester.closed:
                self.failed += 1
                self._failures += 1
                if self._failures >= _FAILURES_IN_A_ROW:
                    self._fail(_unreachable(failure))
        except TuneryError as error:
            self._fail(error)
        else:
            self._failures = 0
            return answer
        return None

    def close(self) -> None:
        """Send nothing new."""
        for requester in self.requesters:
            requester.close()

    def _fail(self, error: TuneryError) -> None:
        self.error = self.error or error
        self.close()


def _unreachable(failure: Unanswered) -> ResourceError:
    return ResourceError(
        f"the endpoint does not answer, {_FAILURES_IN_A_ROW} requests in a row: {failure}",
        hint="type the same command again once it does; what was paid for is kept",
    )


def prompt_ceiling(turns: Turns) -> int:
    """Return a number of tokens that no usual tokenizer exceeds: one a byte, and some for the template.

    >>> prompt_ceiling([{"role": "user", "content": "née"}])
    68
    """
    return _FRAME_TOKENS + sum(len(t["content"].encode("utf-8")) for t in turns)
