"""The arithmetic of one scope's count: what fits, when it will, and what is booked.

Requests and tokens a minute are token buckets, written as what is owed: a bucket of capacity ``c`` forgets
``c / 60`` a second, and admits what keeps the debt within ``c``. Written so, a limit that is changed holds
for what is owed already. It is the generic cell rate algorithm (ITU-T I.371), its burst a minute's worth.

``ledger.lua`` says the same in Lua; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from tunery.core.limits import Usage
from tunery.core.prices import Used

MINUTE = 60.0
_SLACK, _SLACK_USD = 0.01, 1e-9
"""Rounding that is no reason to refuse [requests or tokens; US dollars]."""
_SLACK_S = 1e-6
"""What a bucket is refilled in this time is none either: a time since 1970 is exact to 0.2 µs [s]."""
Bounds = Mapping[str, float]
"""Limits that bound something, by name; those of :class:`~tunery.core.limits.Limits`."""
_COUNTED: Mapping[str, tuple[str, str | None, str | None]] = {
    "requests_per_minute": ("requests", None, None),
    "tokens_per_minute": ("tokens", None, "tokens"),
    "parallel_requests": ("parallel", None, None),
    "tokens_per_day": ("day_tokens", "held_tokens", "tokens"),
    "tokens_per_month": ("month_tokens", "held_tokens", "tokens"),
    "usd_per_day": ("day_usd", "held_usd", "usd"),
    "usd_per_month": ("month_usd", "held_usd", "usd"),
}
"""Limit to the fields that say what is used, what is reserved and what a call needs of it; a call is one."""
_SPARED = frozenset({"requests_per_minute", "tokens_per_minute", "parallel_requests"})
Why = Literal["never", "spent", "full", "busy"]
"""Why a call is not let in: it is larger than the limit; the budget is used up; it would be let in after
some time; it may be once others in flight have ended."""


class Periods(NamedTuple):
    """The day and the month of UTC that a moment lies in; both count up."""

    day: int
    month: int

    @classmethod
    def at(cls, now: float) -> Periods:
        """Return those of a moment [s since 1970]."""
        return _periods(int(now // 86_400))

    def ends(self) -> tuple[float, float]:
        """Return when the day and the month end [s since 1970]."""
        year, month = divmod(self.month + 1, 12)
        return (self.day + 1) * 86_400.0, datetime(year, month + 1, 1, tzinfo=UTC).timestamp()

    def begins(self) -> tuple[date, date]:
        """Return the first days of both."""
        year, month = divmod(self.month, 12)
        return date(1970, 1, 1) + timedelta(days=self.day), date(year, month + 1, 1)


@lru_cache(maxsize=8)
def _periods(day: int) -> Periods:
    date_ = date(1970, 1, 1) + timedelta(days=day)
    return Periods(day, date_.year * 12 + date_.month - 1)


class Obstacle(NamedTuple):
    """A limit that does not let a call in."""

    why: Why
    limit: str
    """Its name."""
    bound: float
    left: float
    """Of it, now."""
    needed: float
    wait_s: float
    """Time after which a call of this size is let in, as far as this limit goes [s]; 0 where nobody knows."""


class Claim(NamedTuple):
    """One account that a call counts in, and what bounds it."""

    account: str
    bounds: Bounds


class Need(NamedTuple):
    """What a call may use at most."""

    tokens: int
    usd: float
    spare: float = 0.0
    """Share that it leaves to others, of limits by the minute and of places [0 to 1]; none of budgets."""


@dataclass(slots=True)
class Account:
    """What was used in one scope and what is reserved in it."""

    at: float = 0.0
    """When the debts were as they are written [s since 1970]."""
    requests: float = 0.0
    """Debt of requests."""
    tokens: float = 0.0
    """Debt of tokens."""
    parallel: int = 0
    """Calls in flight."""
    held_tokens: int = 0
    """Reserved by them."""
    held_usd: float = 0.0
    day: int = 0
    day_tokens: int = 0
    day_usd: float = 0.0
    month: int = 0
    month_tokens: int = 0
    month_usd: float = 0.0

    @classmethod
    def read(cls, text: str) -> Account:
        """Return the account that :meth:`text` wrote."""
        return cls(**json.loads(text))

    def copy(self) -> Account:
        """Return the account as it stands; many times faster than what dataclasses have."""
        return Account(
            self.at,
            self.requests,
            self.tokens,
            self.parallel,
            self.held_tokens,
            self.held_usd,
            self.day,
            self.day_tokens,
            self.day_usd,
            self.month,
            self.month_tokens,
            self.month_usd,
        )

    def text(self) -> str:
        """Return the account as it is stored."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    def seed(self, day: Usage, month: Usage, periods: Periods) -> None:
        """Begin with what was used in these periods before anything bounded it."""
        self.day, self.month = periods
        self.day_tokens, self.day_usd = day.prompt_tokens + day.completion_tokens, day.usd
        self.month_tokens, self.month_usd = month.prompt_tokens + month.completion_tokens, month.usd

    def advance(self, now: float, bounds: Bounds) -> None:
        """Forget what lies behind: debts by their rates, and the counts of a day or a month that is over."""
        # Clocks of machines differ, and one that is behind must not begin a period again that is over.
        passed = max(0.0, now - self.at)
        self.at = max(self.at, now)
        self.requests = _owed(self.requests, bounds.get("requests_per_minute"), passed)
        self.tokens = _owed(self.tokens, bounds.get("tokens_per_minute"), passed)
        periods = Periods.at(now)
        if periods.day > self.day:
            self.day, self.day_tokens, self.day_usd = periods.day, 0, 0.0
        if periods.month > self.month:
            self.month, self.month_tokens, self.month_usd = periods.month, 0, 0.0

    def obstacles(self, bounds: Bounds, need: Need) -> Iterator[Obstacle]:
        """Yield the limits that do not let a call in, after :meth:`advance`."""
        for limit, bound in bounds.items():
            used_field, held_field, needed_field = _COUNTED[limit]
            used = getattr(self, used_field)
            left = bound - used - (getattr(self, held_field) if held_field else 0)
            needed = getattr(need, needed_field) if needed_field else 1
            if need.spare and limit in _SPARED:
                left -= max(0.0, min(need.spare * bound, bound - needed))  # a large one may have all of it
            if needed <= left or needed <= left + _slack(limit, bound):
                continue
            wait_s, why = 0.0, "full"
            if needed > bound:
                why = "never"
            elif limit.endswith("_per_minute"):
                wait_s = (needed - left) / (bound / MINUTE)
            elif limit == "parallel_requests" or needed <= bound - used:
                why = "busy"
            else:
                why = "spent"
                wait_s = Periods(self.day, self.month).ends()[limit.endswith("month")] - self.at
            yield Obstacle(why, limit, bound, max(0.0, left), needed, wait_s)  # type: ignore[arg-type]

    def state(self, limit: str) -> tuple[float, float]:
        """Return what is used and what is held of what a limit bounds."""
        used, held, _ = _COUNTED[limit]
        return getattr(self, used), getattr(self, held) if held else 0

    def left(self, limit: str, bound: float) -> float:
        """Return what is left of a limit."""
        used, held = self.state(limit)
        return max(0.0, bound - used - held)

    def take(self, bounds: Bounds, need: Need) -> None:
        """Reserve what a call may use."""
        self.requests += "requests_per_minute" in bounds
        self.tokens += need.tokens if "tokens_per_minute" in bounds else 0
        self.parallel += 1
        self.held_tokens += need.tokens
        self.held_usd += need.usd

    def settle(self, bounds: Bounds, need: Need | None, used: Used, held_s: float) -> None:
        """End a reservation and count what its call used, after :meth:`advance`.

        What a bucket has forgotten since the reservation may have been this call's debt or another's. It is
        taken for this one's, so that nothing is given back that others owe: what a call did not use comes
        back without it.

        Args:
            need: What was reserved; None where that has lapsed and was given back before.
            held_s: Time since the reservation [s].
        """
        reserved = 0 if need is None else need.tokens
        if need is not None:
            self.parallel = max(0, self.parallel - 1)
            self.held_tokens = max(0, self.held_tokens - need.tokens)
            # Sums of floats: with nothing in flight nothing is reserved.
            self.held_usd = max(0.0, self.held_usd - need.usd) if self.parallel else 0.0
        capacity = bounds.get("tokens_per_minute")
        if capacity is not None:
            forgotten = capacity / MINUTE * held_s
            more = used.tokens - reserved
            self.tokens = max(0.0, self.tokens + (more if more > 0 else min(0.0, more + forgotten)))
        self.day_tokens += used.tokens
        self.day_usd += used.usd
        self.month_tokens += used.tokens
        self.month_usd += used.usd


def _slack(limit: str, bound: float) -> float:
    if limit.startswith("usd"):
        return _SLACK_USD
    return _SLACK + (bound / MINUTE * _SLACK_S if limit.endswith("_per_minute") else 0.0)


def _owed(debt: float, capacity: float | None, passed_s: float) -> float:
    """Return a bucket's debt after some time; nothing is owed where nothing is bounded."""
    return 0.0 if capacity is None else max(0.0, min(debt, capacity) - capacity / MINUTE * passed_s)


def obstacles(accounts: Iterable[tuple[Account, Claim]], need: Need) -> list[tuple[Claim, Obstacle]]:
    """Return what does not let a call in, by accounts as they stand now."""
    return [(claim, found) for account, claim in accounts for found in account.obstacles(claim.bounds, need)]


def reserve(
    accounts: Sequence[tuple[Account, Claim]], need: Need, now: float
) -> list[tuple[Claim, Obstacle]]:
    """Reserve in all accounts, or in none: then return what does not let the call in."""
    for account, claim in accounts:
        account.advance(now, claim.bounds)
    found = obstacles(accounts, need)
    if not found:
        for account, claim in accounts:
            account.take(claim.bounds, need)
    return found
