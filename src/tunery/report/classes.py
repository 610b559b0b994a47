"""Where the tuned model is weak: classes worst first, and what it takes for what."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup

from tunery.core.figures import count, percent, points, subject_name
from tunery.report.inputs import ReportInputs
from tunery.report.svg import meter
from tunery.report.text import Clipped, clip

_OPEN_ROWS = 10
"""Classes shown before the fold [count]."""
_SHOWN = 160
"""Characters of an answer that are shown [count]."""


class ClassRow(NamedTuple):
    """One class."""

    label: str
    support: str
    precision: str
    recall: str
    f1: str
    bar: Markup
    gain: str | None
    """F1 over the best prompting's, in points."""


class ClassTable(NamedTuple):
    """All classes, worst F1 first."""

    worst: tuple[ClassRow, ...]
    others: tuple[ClassRow, ...]
    compared_with: str | None
    perfect: int
    """Classes with F1 of 1 [count]."""
    total: int


class ConfusionRow(NamedTuple):
    """One mistake that repeats."""

    reference: Clipped
    prediction: Clipped
    times: str
    share: str | None
    """Of the rows of the reference class."""
    bar: Markup


def class_table(inputs: ReportInputs) -> ClassTable | None:
    """Return the per-class table; None where outputs are open text or nothing was measured."""
    if inputs.tuned is None or not inputs.tuned.per_class:
        return None
    best = inputs.best_prompting
    before = {score.label: score.f1 for score in inputs.evaluations[best].per_class} if best else {}
    ordered = sorted(inputs.tuned.per_class, key=lambda score: (score.f1, -score.support, score.label))
    rows = tuple(
        ClassRow(
            score.label,
            count(score.support),
            percent(score.precision),
            percent(score.recall),
            percent(score.f1),
            meter(score.f1),
            points(score.f1 - before[score.label]) if score.label in before else None,
        )
        for score in ordered
    )
    cut = _OPEN_ROWS if len(rows) > _OPEN_ROWS + 2 else len(rows)
    perfect = sum(score.f1 >= 1 for score in ordered)
    return ClassTable(
        rows[:cut], rows[cut:], subject_name(best) if best and before else None, perfect, len(rows)
    )


def confusion_rows(inputs: ReportInputs) -> list[ConfusionRow]:
    """Return the confusions of the tuned model, most frequent first."""
    if inputs.tuned is None:
        return []
    support = {score.label: score.support for score in inputs.tuned.per_class}
    ordered = sorted(inputs.tuned.confusions, key=lambda c: (-c.count, c.reference, c.prediction))[:20]
    most = ordered[0].count if ordered else 1
    rows = []
    for confusion in ordered:
        rows_of_class = support.get(confusion.reference, 0)
        share = f"{percent(confusion.count / rows_of_class)} of its rows" if rows_of_class else None
        bar = meter(confusion.count / max(1, most), "meter bad")
        rows.append(
            ConfusionRow(
                clip(confusion.reference, _SHOWN),
                clip(confusion.prediction, _SHOWN),
                count(confusion.count),
                share,
                bar,
            )
        )
    return rows
