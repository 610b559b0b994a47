"""What is left of rate limits, as OpenAI's headers tell it with every answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from tunery.traffic.limits.account import MINUTE, Account, Claim

NO_HEADERS: Mapping[str, str] = {}
RATE_HEADERS = tuple(
    f"x-ratelimit-{part}-{what}"
    for what in ("requests", "tokens")
    for part in ("limit", "remaining", "reset")
)
answer_headers: ContextVar[dict[str, str] | None] = ContextVar("answer_headers", default=None)
"""What the request that is being answered sends with its answer, whatever that becomes: an error, too."""


class Bucket(NamedTuple):
    """One rate limit as it stands."""

    limit: float
    left: float

    @property
    def full_s(self) -> float:
        """Time until it is full again, if nobody calls [s]."""
        return (self.limit - self.left) * MINUTE / self.limit if self.limit else 0.0


def headers_of(claims: Sequence[Claim], accounts: Mapping[str, Account]) -> dict[str, str]:
    """Return OpenAI's ``x-ratelimit-…`` headers: of requests and of tokens, the limit that has least left."""
    headers: dict[str, str] = {}
    for what in ("requests", "tokens"):
        limit = f"{what}_per_minute"
        least: Bucket | None = None
        for claim in claims:
            bound = claim.bounds.get(limit)
            if bound is None or claim.account not in accounts:
                continue
            left = accounts[claim.account].left(limit, bound)
            if least is None or left < least.left:
                least = Bucket(bound, left)
        if least is not None:
            headers[f"x-ratelimit-limit-{what}"] = f"{least.limit:.0f}"
            headers[f"x-ratelimit-remaining-{what}"] = str(math.floor(least.left + 1e-6))
            headers[f"x-ratelimit-reset-{what}"] = duration(least.full_s)
    return headers


def duration(seconds: float) -> str:
    """Return a time as OpenAI's headers write it.

    >>> duration(0.0071), duration(0.99999), duration(7.66), duration(360), duration(0)
    ('8ms', '1s', '7.66s', '6m0s', '0s')
    """
    ms = math.ceil(max(0.0, seconds) * 1000)
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    return f"{f'{minutes}m' if minutes else ''}{rest / 1000:g}s"
