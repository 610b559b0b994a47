"""Many independent requests to one endpoint: each answered and paid for once, or counted as failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tunery.core.clock import SystemClock
from tunery.core.progress import Progress, Silent
from tunery.endpoint.budget import NO_LIMITS, Limits
from tunery.endpoint.client import Line, Turns
from tunery.endpoint.config import EndpointConfig, MaxTokensField
from tunery.endpoint.journal import Journal, PaidAnswer
from tunery.endpoint.requests import Call, request_key

OVER_BUDGET = "the budget does not pay for it"


class Answers(NamedTuple):
    """What came of the requests; each is in one of the two."""

    found: Mapping[str, PaidAnswer]
    """Request to its answer; log-probabilities are in the journal."""
    failed: Mapping[str, str]
    """Request to why it has none, after every attempt."""
    retries: int
    """Attempts beyond the first of each request [count]."""
    max_tokens_field: MaxTokensField = "max_tokens"
    """What the endpoint was found to call the limit of an answer."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How requests are sent, apart from what the endpoint's settings say."""

    limits: Limits = NO_LIMITS
    """What they may cost together, earlier calls with the same journal counted."""
    now: Callable[[], datetime] = field(default_factory=lambda: SystemClock().now)
    should_stop: Callable[[], bool] = lambda: False
    """Asked several times a second; once it says yes, nothing new is sent, what is in flight is waited for,
    and :class:`KeyboardInterrupt` is raised."""
    progress: Progress = field(default_factory=Silent)
    patience: int | None = None
    """Requests in a row without an answer after which the endpoint is given up; None for never."""
    line: Callable[[], Line] | None = None
    """Opens what the endpoint is reached by; None connects with the key that its settings name."""
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Request to what it has besides its turns, such as its ``tools``."""


def key_of(config: EndpointConfig, turns: Turns, fields: Mapping[str, Any] | None = None) -> str:
    """Return the key that :func:`ask_all` keeps a request's answer by.

    Args:
        config: Who answers.
        turns: The prompt.
        fields: What the request has besides.
    """
    about: list[Any] = [dict(turn) for turn in turns]
    return request_key(config, [about, fields] if fields else about)


def ask_all(
    config: EndpointConfig,
    requests: Mapping[str, Turns],
    journal: Journal,
    *,
    what: str,
    asking: Asking | None = None,
) -> Answers:
    """Put every request to an endpoint, so many at once as its settings allow.

    A request that the journal has an answer to is not sent again. One that times out, is turned away for
    now or brings garbage is tried again as the settings say, and is then a failure with its reason: none is
    left out.

    Args:
        config: Who answers.
        requests: Name of each to its turns.
        journal: Keeps what was paid for.
        what: Of what the progress bar counts, such as ``"answers of gpt"``.
        asking: Budget, clock and stop.

    Raises:
        ConfigError: The endpoint refuses a request for a reason that only the user can mend.
        ResourceError: The account is empty, the endpoint asks for a longer pause than is allowed, or it was
            given up.
        KeyboardInterrupt: It was to stop.
    """
    asking = asking or Asking()
    call = Call(
        asking.limits, journal, asking.now, asking.should_stop, patience=asking.patience, line=asking.line
    )
    waiting = iter(requests.items())
    found: dict[str, PaidAnswer] = {}
    failed: dict[str, str] = {}
    with asking.progress.task(what, len(requests)) as bar:

        async def one(name: str, turns: Turns) -> None:
            key, fields = key_of(config, turns, asking.fields.get(name)), asking.fields.get(name, {})
            answer = await call.requesters[0].answer(key, turns, fields, pay=not call.budget_spent)
            if answer is not None:
                found[name] = answer
            elif not call.closed:
                failed[name] = call.reasons.get(key, OVER_BUDGET)
            bar.advance(1)

        def step() -> None:
            while not call.closed and len(call.running) < config.concurrency:
                following = next(waiting, None)
                if following is None:
                    return
                call.start(one(*following), 1)

        call.run([config], step, asking.progress)
    return Answers(found, failed, call.retries, call.requesters[0].max_tokens_field)
