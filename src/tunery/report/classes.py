"""Where the tuned model is weak: classes worst first, and what it takes for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tunery.core.evaluation import ClassScore, Confusion
from tunery.report.inputs import ReportInputs

_OPEN_ROWS = 10
"""Classes shown before the fold [count]."""


class ClassTable(NamedTuple):
    """All classes, worst F1 first."""

    worst: Sequence[ClassScore]
    others: Sequence[ClassScore]
    before: Mapping[str, float]
    """F1 of the best prompting, by class."""
    compared_with: str | None
    """Subject of that prompting; None where there is none."""


def class_table(inputs: ReportInputs) -> ClassTable | None:
    """Return the per-class table; None where outputs are open text or nothing was measured."""
    if inputs.tuned is None or not inputs.tuned.per_class:
        return None
    best = inputs.best_prompting
    before = {score.label: score.f1 for score in inputs.evaluations[best].per_class} if best else {}
    ordered = sorted(inputs.tuned.per_class, key=lambda score: (score.f1, -score.support, score.label))
    cut = _OPEN_ROWS if len(ordered) > _OPEN_ROWS + 2 else len(ordered)
    return ClassTable(ordered[:cut], ordered[cut:], before, best if before else None)


def confusions_of(inputs: ReportInputs) -> list[tuple[Confusion, float | None]]:
    """Return the tuned model's confusions with their shares of their class's rows, most frequent first."""
    if inputs.tuned is None:
        return []
    support = {score.label: score.support for score in inputs.tuned.per_class}
    ordered = sorted(inputs.tuned.confusions, key=lambda c: (-c.count, c.reference, c.prediction))[:20]
    shares = [c.count / support[c.reference] if support.get(c.reference) else None for c in ordered]
    return list(zip(ordered, shares, strict=True))
