"""How long things are: a histogram that says its middle and its tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from tunery.core.figures import count
from tunery.report.svg import across, chart, element, ticks

_BINS = 32
_TOP = 26
_PLOT = 150


class Lengths(NamedTuple):
    """Lengths in figures [characters]."""

    shortest: int
    median: int
    p95: int
    longest: int


def lengths_of(values: Sequence[int]) -> Lengths:
    """Return the figures of at least one length."""
    low, middle, high, top = np.percentile(np.asarray(values), [0, 50, 95, 100])
    return Lengths(int(low), round(middle), round(high), int(top))


def histogram(key: str, title: str, values: Sequence[int]) -> Markup:
    """Draw how many rows have which length; what is beyond the 99th percentile is one last bar.

    Args:
        key: Unique within the page.
        title: What is counted.
        values: One length a row, at least one [characters].
    """
    array = np.asarray(values)
    figures = lengths_of(values)
    limit = max(int(np.percentile(array, 99)), 1)
    # Whole numbers a bin: else neighbouring bins hold different numbers of lengths, and the chart is a comb.
    width = max(1, -(-(limit + 1) // _BINS))
    edges = np.arange(0, limit + width + 1, width)
    counts = np.histogram(array[array < edges[-1]], bins=edges)[0].tolist()
    beyond = int((array >= edges[-1]).sum())
    bars = [*counts, *([beyond] if beyond else [])]
    tallest = max(bars)
    bottom = _TOP + _PLOT
    parts = [_grid(tallest, bottom)]
    for i, rows in enumerate(bars):
        height = _PLOT * rows / tallest
        tail = bool(beyond) and i == len(bars) - 1
        parts.append(
            element(
                "rect",
                {
                    "class": "bar" if tail else "bar tuned",
                    "x": across((i + 0.06) / len(bars)),
                    "width": across(0.88 / len(bars)),
                    "y": float(bottom - height),
                    "height": float(height),
                },
            )
        )
    parts.append(_scale(int(edges[-1]), len(counts) / len(bars), bottom, beyond=beyond))
    parts.append(_middle(figures.median / float(edges[-1]) * len(counts) / len(bars), figures.median, bottom))
    described = (
        f"{count(len(values))} rows, from {count(figures.shortest)} to {count(figures.longest)} characters; "
        f"half have at most {count(figures.median)}, 95 % at most {count(figures.p95)}"
    )
    return chart(key, title, described, bottom + 24, *parts)


def _grid(tallest: int, bottom: int) -> Markup:
    parts = []
    for value in ticks(0, tallest, 3):
        if value != int(value):
            continue
        y = float(bottom - _PLOT * value / tallest)
        parts.append(element("line", {"class": "grid", "x1": 0, "x2": "100%", "y1": y, "y2": y}))
        if value:
            parts.append(
                element(
                    "text",
                    {"class": "axis halo", "x": "100%", "y": y - 4, "text-anchor": "end"},
                    f"{count(int(value))} rows",
                )
            )
    return element("g", {"aria-hidden": "true"}, *parts)


def _scale(last: int, share: float, bottom: int, *, beyond: int) -> Markup:
    parts = []
    for value in ticks(0, last):
        x = share * value / last
        if value != int(value) or (beyond and x > 0.86):
            continue
        anchor = "start" if value == 0 else "end" if x > 0.97 else "middle"
        parts.append(
            element(
                "text",
                {"class": "axis", "x": across(x), "y": bottom + 16, "text-anchor": anchor},
                count(int(value)),
            )
        )
    if beyond:
        parts.append(
            element(
                "text",
                {"class": "axis", "x": "100%", "y": bottom + 16, "text-anchor": "end"},
                f"{count(last)} and more",
            )
        )
    return element("g", {"aria-hidden": "true"}, *parts)


def _middle(share: float, median: int, bottom: int) -> Markup:
    x = across(min(1.0, share))
    anchor = "start" if share < 0.1 else "end" if share > 0.9 else "middle"
    return element(
        "g",
        {"aria-hidden": "true"},
        element("line", {"class": "target", "x1": x, "x2": x, "y1": _TOP - 6, "y2": bottom}),
        element(
            "text",
            {"class": "axis strong halo", "x": x, "y": _TOP - 12, "text-anchor": anchor},
            f"median {count(median)}",
        ),
    )
