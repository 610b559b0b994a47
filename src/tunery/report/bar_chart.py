"""Bars with 95 % intervals: what prompting reaches, what the champion reaches, what tuning reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

from tunery.core.evaluation import Metric
from tunery.core.figures import is_rate, metric_interval, metric_value, quantity
from tunery.report.svg import across, chart, element, ticks

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
        parts.append(element("line", {"class": "grid", "x1": x, "x2": x, "y1": _TOP, "y2": bottom}))
        anchor = "start" if value == 0 else "end" if value / top > 0.97 else "middle"
        label = quantity(value, share=rates)
        parts.append(
            element("text", {"class": "axis", "x": x, "y": bottom + 16, "text-anchor": anchor}, label)
        )
    return element("g", {"aria-hidden": "true"}, *parts)


def _bar(bar: SubjectBar, y: int, top: float) -> Markup:
    value, (low, high) = bar.metric.value, bar.metric.ci95
    middle = y + 22 + _BAR // 2
    kind = {"class": f"bar {bar.kind}", "y": y + 22, "width": across(max(0.0, value) / top), "height": _BAR}
    whisker = [
        element("line", {"class": "whisker", "x1": x1, "x2": x2, "y1": y1, "y2": y2})
        for x1, x2, y1, y2 in (
            (across(low / top), across(high / top), middle, middle),
            (across(low / top), across(low / top), middle - 5, middle + 5),
            (across(high / top), across(high / top), middle - 5, middle + 5),
        )
    ]
    weight = " strong" if bar.kind == "tuned" else ""
    return element(
        "g",
        {},
        element("text", {"class": f"name halo{weight}", "x": 0, "y": y + 15}, bar.name),
        element(
            "text",
            {"class": f"value halo{weight}", "x": "100%", "y": y + 15, "text-anchor": "end"},
            metric_value(bar.metric),
        ),
        element("rect", {**kind, "rx": 2}),
        *whisker,
    )


def _target(share: float, bottom: int, label: str) -> Markup:
    x = across(share)
    anchor = "start" if share < 0.2 else "end" if share > 0.8 else "middle"
    return element(
        "g",
        {},
        element("line", {"class": "target", "x1": x, "x2": x, "y1": _TOP, "y2": bottom + 22}),
        element(
            "text",
            {"class": "axis strong", "x": x, "y": bottom + 37, "text-anchor": anchor},
            f"target {label}",
        ),
    )


def _described(bars: Sequence[SubjectBar]) -> str:
    return "; ".join(
        f"{bar.name}: {metric_value(bar.metric)}, "
        f"95 % interval {metric_interval(bar.metric)}, n {bar.metric.n:,}"
        for bar in bars
    )
