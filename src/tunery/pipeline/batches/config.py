"""Settings of batches."""

from __future__ import annotations

from pydantic import Field

from tunery.core.config import Settings


class BatchSettings(Settings):
    """How files of requests are worked off."""

    run: bool = True
    """Work on batches; off where another server of the same database does."""
    at_once: int = Field(default=8, ge=1)
    """Lines being answered at the same time, those of all batches together [count]."""
    batches_at_once: int = Field(default=16, ge=1)
    """Batches worked on at the same time, which take turns [count]; others wait."""
    max_lines: int = Field(default=50_000, ge=1)
    """Requests in one batch at most [count]."""
    max_bytes: int = Field(default=200 * 2**20, ge=1)
    """Size of a batch's file at most [bytes]."""
    max_open: int = Field(default=200, ge=1)
    """Batches of one project that have not ended at most [count]."""
    window_hours: float = Field(default=24.0, gt=0)
    """Time that a batch has [h]; what is not answered then is not answered any more."""
    lease_s: float = Field(default=30.0, gt=0)
    """How long a batch is held without a sign of life before another server may take it over [s]."""
    poll_s: float = Field(default=1.0, gt=0)
    """Pause between two looks at the batches that wait, and for those that were cancelled [s]."""
