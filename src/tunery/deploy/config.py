"""Settings of a canary: how much traffic, what is watched, and when it ends."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tunery.core.config import Settings


class CanaryConfig(Settings):
    """How a challenger is tried on live requests."""

    percent: float = Field(10.0, gt=0, lt=100)
    """Share of users whose requests the challenger answers [%]. More finds a difference sooner and exposes
    more people to a bad version."""
    horizon_requests: int | None = Field(500, ge=1)
    """Challenger requests after which the canary has run its course [count]; null leaves it to the time."""
    horizon_hours: float | None = Field(None, gt=0)
    """Hours after which the canary has run its course; null leaves it to the requests. Where both are set,
    both must be reached."""
    on_horizon: Literal["promote", "hold"] = "promote"
    """At the horizon with no guard broken: make the challenger champion, or wait for a person to."""
    min_requests: int = Field(20, ge=1)
    """Challenger requests before any verdict [count]. The test needs no such floor; the first requests
    after a start do, being slower and odder than the rest."""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Chance that a challenger no worse than tolerated is ever rolled back, however often it is looked at,
    all guards together."""
    max_error_rate_increase: float | None = Field(0.02, ge=0, lt=1)
    """How much more often requests may fail than at the champion, as a difference of shares (0.02 is two
    points); null does not watch it."""
    max_format_invalid_increase: float | None = Field(0.02, ge=0, lt=1)
    """How much more often an answer may miss the labels or the JSON that was asked for; null does not watch
    it."""
    max_dislike_increase: float | None = Field(0.1, ge=0, lt=1)
    """How much larger the share of thumbs down among ratings may be; null does not watch it."""
    max_latency_p95_ratio: float | None = Field(2.0, gt=0)
    """Challenger's 95th percentile of latency over the champion's, at most. Descriptive, not tested: it is
    read from the horizon on, holds back the promotion, and never rolls back. Null does not watch it."""

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Self:
        if self.horizon_requests is None and self.horizon_hours is None:
            raise ValueError("a canary needs an end: set horizon_requests, horizon_hours or both")
        return self


class DeployConfig(Settings):
    """How a registered version reaches traffic."""

    canary: CanaryConfig = CanaryConfig()
    """The trial on live requests that a version passes before it becomes champion."""
