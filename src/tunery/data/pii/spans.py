"""A span: one piece of personal data in a text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from tunery.data.config import PiiType


class Span(NamedTuple):
    """One piece of personal data in a text."""

    start: int
    """First character."""
    end: int
    """One past the last character."""
    type: PiiType
    """Named as Presidio names it, where it has a name for it."""
    score: float
    """How sure: 1.0 where a checksum holds, less where only the form or the words around speak, in (0, 1]."""


def without_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Return spans sorted, none overlapping: of two the surer stays, then the longer, then the first."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (-s.score, s.start - s.end, s.start)):
        place = bisect_left(kept, span)
        after_previous = place == 0 or kept[place - 1].end <= span.start
        before_next = place == len(kept) or span.end <= kept[place].start
        if after_previous and before_next:
            kept.insert(place, span)
    return kept
