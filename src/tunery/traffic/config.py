"""Settings of what happens to requests that cannot be answered as asked."""

from __future__ import annotations

from pydantic import Field, field_validator

from tunery.core.breaker import BreakerSettings
from tunery.core.config import Settings


class CacheSettings(Settings):
    """How long keys and names that were looked up are used again."""

    fresh_s: float = Field(default=1.0, ge=0)
    """Age up to which they are used without asking the database [s]: a key revoked, or an alias moved, by
    another process holds here after this time at the latest; what this process does holds at once."""
    stale_s: float = Field(default=600.0, ge=0)
    """Age up to which they are used while the database does not answer [s]; keys and names that were not
    used in that time get a 503 then."""


class TrafficSettings(Settings):
    """How long requests may take, what is tried again, and who answers instead."""

    first_token_s: float = Field(default=300.0, gt=0)
    """Time until the first token of an answer at most, waiting for its turn included [s]."""
    total_s: float = Field(default=600.0, gt=0)
    """Time of a whole answer at most [s]; a stream is ended with an error. A client that says in
    `x-stainless-read-timeout` or `x-stainless-timeout` how long it waits, as OpenAI's do, is not answered
    later than that."""
    retries: int = Field(default=1, ge=0, le=5)
    """How often a request is given to the same engine again that failed before the first byte was sent."""
    fallback: tuple[str, ...] = ("champion",)
    """Who answers a model's bare name where its version fails before the first byte, in this order:
    `champion` (of the same name, when a challenger failed), `base` (without adapter), or the name of another
    model. Pinned names (`name@3`, `ft:…`) are answered by what they name or not at all."""
    breaker: BreakerSettings = BreakerSettings()
    """When an engine that fails is left alone for a while."""
    cache: CacheSettings = CacheSettings()
    """How long keys and names that were looked up are used again."""

    @field_validator("fallback")
    @classmethod
    def _each_once(cls, steps: tuple[str, ...]) -> tuple[str, ...]:
        if not all(step.strip() for step in steps) or len(set(steps)) < len(steps):
            raise ValueError("each step is a name, and each is there once")
        return steps
