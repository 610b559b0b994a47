"""The loss over training: train and validation, with the step that was kept marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from markupsafe import Markup

from tunery.core.figures import number
from tunery.core.training import StepLog
from tunery.report.svg import across, chart, element, label, line, ticks, unread

_TOP = 34
_PLOT = 220
_SMOOTH_FROM = 60
"""Train points from which on a running mean is drawn over the raw line [count]."""
_LINE_POINTS = 400
"""Points of a line at most; a page needs no more, and it keeps the file small [count]."""
T = TypeVar("T")


class Point(NamedTuple):
    """One finite loss."""

    step: int
    loss: float


class Losses(NamedTuple):
    """The finite losses of a history."""

    train: tuple[Point, ...]
    validation: tuple[Point, ...]
    not_finite: int
    """Logged losses that were infinite or not a number [count]."""


class _Frame(NamedTuple):
    """Where data lies within the plot."""

    first: float
    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        """Return the share of the width, a little room left at both ends for markers."""
        return 0.012 + 0.976 * (step - self.first) / max(1e-9, self.last - self.first)

    def y(self, loss: float) -> float:
        """Return the share of the height, from the top."""
        return (self.high - loss) / max(1e-9, self.high - self.low)


def losses_of(history: Sequence[StepLog]) -> Losses:
    """Split a history into its two curves, in step order."""
    ordered = sorted(history, key=lambda log: log.step)
    train = [Point(log.step, log.train_loss) for log in ordered if log.train_loss is not None]
    validation = [Point(log.step, log.validation_loss) for log in ordered if log.validation_loss is not None]
    kept_train = tuple(p for p in train if math.isfinite(p.loss))
    kept_validation = tuple(p for p in validation if math.isfinite(p.loss))
    lost = len(train) + len(validation) - len(kept_train) - len(kept_validation)
    return Losses(kept_train, kept_validation, lost)


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Return the mean loss over the ``window`` points that end at each point."""
    means, total = [], 0.0
    for i, point in enumerate(points):
        total += point.loss
        if i >= window:
            total -= points[i - window].loss
        means.append(Point(point.step, total / min(i + 1, window)))
    return means


def thinned(points: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` points, evenly spaced, both ends kept."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def loss_chart(losses: Losses, best_step: int | None) -> Markup | None:
    """Draw the curves; None when fewer than two losses were logged, because there is no curve.

    Args:
        losses: Finite losses [nats].
        best_step: The step whose adapter was kept.
    """
    everything = (*losses.train, *losses.validation)
    if len({p.step for p in everything}) < 2:
        return None
    frame = _frame(everything)
    window = max(5, len(losses.train) // 25)
    smooth = running_mean(losses.train, window) if len(losses.train) >= _SMOOTH_FROM else None
    curves = [_curve("train raw" if smooth else "train", losses.train, frame)]
    curves += [_curve("train", smooth, frame)] if smooth else []
    curves += [_curve("validation", losses.validation, frame)]
    plot = element(
        "svg",
        {
            "x": 0,
            "y": _TOP,
            "width": "100%",
            "height": _PLOT,
            "viewBox": "0 0 1000 1000",
            "preserveAspectRatio": "none",
            "class": "plot",
        },
        *curves,
    )
    parts = [_legend(window if smooth else None), _grid(frame), plot, *_dots(losses.validation, frame)]
    best = next((p for p in losses.validation if p.step == best_step), None)
    if best_step is not None and frame.first <= best_step <= frame.last:
        parts.append(_best(best_step, best, frame))
    text = _described(losses, best_step, best)
    return chart("loss", "Loss during training", text, _TOP + _PLOT + 26, *parts)


def _frame(points: Sequence[Point]) -> _Frame:
    low, high = min(p.loss for p in points), max(p.loss for p in points)
    margin = 0.08 * (high - low or 1.0)
    # Zero is the floor of a loss; show it when the curve comes near.
    floor = 0.0 if low < 0.35 * high else low - margin
    return _Frame(min(p.step for p in points), max(p.step for p in points), floor, high + margin)


def _curve(kind: str, points: Sequence[Point], frame: _Frame) -> Markup:
    places = " ".join(
        f"{frame.x(p.step) * 1000:.1f},{frame.y(p.loss) * 1000:.1f}" for p in thinned(points, _LINE_POINTS)
    )
    attributes = {"class": f"line {kind}", "points": places, "vector-effect": "non-scaling-stroke"}
    return element("polyline", attributes)


def _dots(points: Sequence[Point], frame: _Frame) -> list[Markup]:
    return [
        element(
            "circle",
            {"class": "dot", "cx": across(frame.x(p.step)), "cy": _TOP + frame.y(p.loss) * _PLOT, "r": 3.5},
        )
        for p in thinned(points, 60)
    ]


def _grid(frame: _Frame) -> Markup:
    parts = []
    for value in ticks(frame.low, frame.high):
        y = _TOP + frame.y(value) * _PLOT
        parts.append(line("grid", 0, y, "100%", y))
        if y - 4 > _TOP + 6:
            parts.append(label("axis halo", 0, y - 4, number(value)))
    ends = {frame.first: "start", frame.last: "end"}
    between = [s for s in ticks(frame.first, frame.last) if 0.15 < frame.x(s) < 0.85]
    for step in (frame.first, *between, frame.last):
        words = f"step {step:,.0f}" if step in ends else f"{step:,.0f}"
        x, anchor = across(frame.x(step)), ends.get(step, "middle")
        parts.append(label("axis", x, _TOP + _PLOT + 18, words, anchor))
    return unread(*parts)


def _legend(window: int | None) -> Markup:
    return unread(
        line("line validation", 1, 11, 25, 11),
        element("circle", {"class": "dot", "cx": 13, "cy": 11, "r": 3.5}),
        label("name", 31, 16, "validation"),
        line("line train", 116, 11, 140, 11),
        label("name", 146, 16, f"train, mean of {window} steps" if window else "train"),
    )


def _best(step: int, point: Point | None, frame: _Frame) -> Markup:
    share = frame.x(step)
    x, right = across(share), share > 0.6
    words = f"kept: step {step:,}" + (f", loss {number(point.loss)}" if point else "")
    beside = across(share - 0.012 if right else share + 0.012)
    parts = [
        line("best", x, _TOP, x, _TOP + _PLOT),
        label("name strong halo", beside, _TOP + 14, words, "end" if right else "start"),
    ]
    if point:
        y = _TOP + frame.y(point.loss) * _PLOT
        parts.append(element("circle", {"class": "ring", "cx": x, "cy": y, "r": 7}))
    return element("g", {}, *parts)


def _described(losses: Losses, best_step: int | None, best: Point | None) -> str:
    sentences = []
    for name, points in (("Train", losses.train), ("Validation", losses.validation)):
        if points:
            first, last = points[0], points[-1]
            sentences.append(
                f"{name} loss goes from {number(first.loss)} at step {first.step:,} "
                f"to {number(last.loss)} at step {last.step:,}."
            )
    if best_step is not None:
        at = f" with validation loss {number(best.loss)}" if best else ""
        sentences.append(f"The adapter of step {best_step:,} was kept{at}.")
    return " ".join(sentences)
