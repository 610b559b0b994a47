"""Limits and budgets: whose calls they bound, what they bound, and what was used of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from pydantic import Field

from tunery.core.config import Record, Settings
from tunery.core.ids import sha256_text

UNLIMITED: Literal["unlimited"] = "unlimited"
Count: TypeAlias = Annotated[int, Field(ge=0)] | Literal["unlimited"] | None
Money: TypeAlias = Annotated[float, Field(ge=0)] | Literal["unlimited"] | None
EACH = "*"
"""In a scope: every one of them for itself."""
ALL = "all"
"""Text of the scope of all calls."""
_PLAIN = "*@:/+"
"""Characters that a scope's text shows as they are, beside letters, digits and ``_.-~``."""


class Limits(Settings):
    """What calls may use; a limit that is left out is taken from the next wider rule, and may be `unlimited`.

    Days and months are those of UTC. Tokens are those of prompts and answers together; a call counts with its
    prompts and the most that it may be answered until it is known what it used.
    """

    requests_per_minute: Count = None
    """Requests a minute. A minute's worth may come at once; it is refilled evenly."""
    tokens_per_minute: Count = None
    """Tokens a minute, refilled in the same way."""
    parallel_requests: Count = None
    """Requests answered at the same time."""
    tokens_per_day: Count = None
    """Budget of a day in tokens."""
    tokens_per_month: Count = None
    """Budget of a month in tokens."""
    usd_per_day: Money = None
    """Budget of a day in money; counts models whose price is known [US dollars]."""
    usd_per_month: Money = None
    """Budget of a month in money; counts models whose price is known [US dollars]."""

    def over(self, wider: Limits) -> Limits:
        """Return these limits, and those of a wider rule where this one has none."""
        mine = {name: value for name, value in self if value is not None}
        return wider.model_copy(update=mine)

    def bounds(self) -> Iterator[tuple[str, float]]:
        """Yield the limits that bound something, by name."""
        for name, value in self:
            if value is not None and value != UNLIMITED:
                yield name, value


LIMIT_NAMES: tuple[str, ...] = tuple(Limits.model_fields)


class Scope(NamedTuple):
    """Whose calls are counted together; None for anybody's, ``*`` for each one's own count."""

    project: str | None = None
    key: str | None = None
    """Id of an API key."""
    user: str | None = None
    """As the client names its user, by ``safety_identifier`` or ``user``."""
    model: str | None = None
    """Name of a model without its version, or a base."""

    @property
    def text(self) -> str:
        """What the scope is called where it is counted and shown, as in ``key=key-1 model=bot``."""
        named = ((part, value) for part, value in self._asdict().items() if value is not None)
        return " ".join(f"{part}={quote(value, safe=_PLAIN)}" for part, value in named) or ALL

    @property
    def account(self) -> str:
        """Name of its count: users are named by a hash, for their names are personal data of any length."""
        hashed = None if self.user is None or self.user == EACH else sha256_text(self.user)[:16]
        return self._replace(user=hashed or self.user).text

    @classmethod
    def of_account(cls, account: str) -> Scope:
        """Return the scope of an account, with the hash of its user in place of the user."""
        parts = (part.partition("=") for part in account.split(" ") if account != ALL)
        return cls(**{name: unquote(value) for name, _, value in parts})

    def covers(self, caller: Scope) -> bool:
        """Say whether a caller's calls are among those that are meant."""
        return all(
            mine is None or mine == theirs or (mine == EACH and theirs is not None)
            for mine, theirs in zip(self, caller, strict=True)
        )

    def of(self, caller: Scope) -> Scope:
        """Return the scope with each ``*`` replaced by who calls."""
        return Scope(*(t if m == EACH else m for m, t in zip(self, caller, strict=True)))


class LimitRule(Record):
    """Limits that an operator set for a scope."""

    id: str
    """The scope's text."""
    scope: Scope
    limits: Limits
    created_at: datetime
    changed_at: datetime


class Usage(NamedTuple):
    """What calls used, added up."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """Return both added up."""
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.usd + other.usd,
        )


class DayUsage(NamedTuple):
    """What one key used of one model on one day of UTC."""

    day: date
    project: str
    key: str
    model: str
    usage: Usage


def row_of(usage: Usage) -> dict[str, Any]:
    """Return usage as programs read it."""
    return {**usage._asdict(), "tokens": usage.prompt_tokens + usage.completion_tokens}
