"""How long things are: a histogram that says its middle and its tail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from tunery.core.figures import count
from tunery.report.svg import across, anchor_at, chart, element, label, line, ticks, unread

_BINS = 32
_TOP = 26
_PLOT = 150


def lengths_in_words(values: Sequence[int]) -> str:
    """Say between what ends at least one length lies, where the middle is and where the tail begins."""
    low, middle, high, top = np.percentile(values, [0, 50, 95, 100])
    return (
        f"from {low:,.0f} to {top:,.0f} characters; half have at most {middle:,.0f}, 95 % at most {high:,.0f}"
    )


def histogram(values: Sequence[int], name: str) -> Markup:
    """Draw how many rows have which length; what is beyond the 99th percentile is one last bar.

    Args:
        values: One length a row, at least one [characters].
        name: What has these lengths, such as ``answers``; unique within the page.
    """
    array = np.asarray(values)
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
        attributes = {
            "class": "bar" if i == len(counts) else "bar tuned",
            "x": across((i + 0.06) / len(bars)),
            "width": across(0.88 / len(bars)),
            "y": float(bottom - height),
            "height": float(height),
        }
        parts.append(element("rect", attributes))
    last, share = int(edges[-1]), len(counts) / len(bars)
    parts.append(_scale(last, share, bottom, beyond=beyond))
    median = round(np.median(array))
    parts.append(_middle(median / last * share, median, bottom))
    described = f"{count(len(values))} rows, {lengths_in_words(values)}"
    return chart(name, f"Length of {name}", described, bottom + 24, *parts)


def _grid(tallest: int, bottom: int) -> Markup:
    parts = []
    for value in ticks(0, tallest, 3):
        if value != int(value):
            continue
        y = float(bottom - _PLOT * value / tallest)
        parts.append(line("grid", 0, y, "100%", y))
        if value:
            parts.append(label("axis halo", "100%", y - 4, f"{count(int(value))} rows", "end"))
    return unread(*parts)


def _scale(last: int, share: float, bottom: int, *, beyond: int) -> Markup:
    parts = []
    for value in ticks(0, last):
        x = share * value / last
        if value == int(value) and not (beyond and x > 0.86):
            parts.append(label("axis", across(x), bottom + 16, count(int(value)), anchor_at(x, 0.03)))
    if beyond:
        parts.append(label("axis", "100%", bottom + 16, f"{count(last)} and more", "end"))
    return unread(*parts)


def _middle(share: float, median: int, bottom: int) -> Markup:
    x = across(min(1.0, share))
    words = label("axis strong halo", x, _TOP - 12, f"median {count(median)}", anchor_at(share, 0.1))
    return unread(line("target", x, _TOP - 6, x, bottom), words)
