"""Bars with 95 % intervals: what prompting reaches, what the champion reaches, what tuning reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

from tunery.core.evaluation import Metric
from tunery.core.figures import is_rate, metric_interval, metric_value, quantity
from tunery.report.svg import across, anchor_at, chart, element, label, line, ticks, unread

_ROW = 46
_TOP = 8
_BAR = 16


class SubjectBar(NamedTuple):
    """One subject's bar."""

    name: str
    kind: Literal["prompting", "version", "tuned"]
    metric: Metric


def bar_chart(bars: Sequence[SubjectBar], target: float | None = None) -> Markup:
    """Draw one bar a subject with its interval, and the target as a dashed line.

    Args:
        bars: In reading order, all of the same metric, at least one.
        target: Value the recipe's goal names, in the metric's own unit.
    """
    top = _scale_top(bars, target)
    rates = all(is_rate(bar.metric) for bar in bars)
    bottom = _TOP + _ROW * len(bars)
    parts = [_grid(top, bottom, rates=rates)]
    parts += [_bar(bar, _TOP + _ROW * i, top) for i, bar in enumerate(bars)]
    if target is not None and 0 <= target <= top:
        parts.append(_target(target / top, bottom, quantity(target, share=rates)))
    height = bottom + (44 if target is not None else 24)
    name = bars[0].metric.title
    return chart("bars", f"{name[0].upper()}{name[1:]} by model", _described(bars), height, *parts)


def _scale_top(bars: Sequence[SubjectBar], target: float | None) -> float:
    if all(is_rate(bar.metric) for bar in bars):
        return 1.0
    return 1.05 * max(1e-9, target or 0, *(max(bar.metric.value, bar.metric.ci95[1]) for bar in bars))


def _grid(top: float, bottom: int, *, rates: bool) -> Markup:
    parts = []
    for value in ticks(0, top):
        x = across(value / top)
        parts.append(line("grid", x, _TOP, x, bottom))
        anchor = anchor_at(value / top, 0.03)
        parts.append(label("axis", x, bottom + 16, quantity(value, share=rates), anchor))
    return unread(*parts)


def _bar(bar: SubjectBar, y: int, top: float) -> Markup:
    low, high = (across(end / top) for end in bar.metric.ci95)
    width = across(max(0.0, bar.metric.value) / top)
    middle = y + 22 + _BAR // 2
    weight = " strong" if bar.kind == "tuned" else ""
    return element(
        "g",
        {},
        label(f"name halo{weight}", 0, y + 15, bar.name),
        label(f"value halo{weight}", "100%", y + 15, metric_value(bar.metric), "end"),
        element("rect", {"class": f"bar {bar.kind}", "y": y + 22, "width": width, "height": _BAR, "rx": 2}),
        line("whisker", low, middle, high, middle),
        line("whisker", low, middle - 5, low, middle + 5),
        line("whisker", high, middle - 5, high, middle + 5),
    )


def _target(share: float, bottom: int, value: str) -> Markup:
    x = across(share)
    words = label("axis strong", x, bottom + 37, f"target {value}", anchor_at(share, 0.2))
    return element("g", {}, line("target", x, _TOP, x, bottom + 22), words)


def _described(bars: Sequence[SubjectBar]) -> str:
    return "; ".join(
        f"{bar.name}: {metric_value(bar.metric)}, "
        f"95 % interval {metric_interval(bar.metric)}, n {bar.metric.n:,}"
        for bar in bars
    )
