"""The main metric on parts of the rows: a loss on one may hide behind a gain on the whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tunery.core.evaluation import Comparison, Metric, Prediction, Slice
from tunery.core.example import Example
from tunery.core.statistics import holm
from tunery.evaluate.comparison import compare, verdict_of
from tunery.evaluate.run import EvaluationResult, main_metric_over
from tunery.evaluate.task import Task

_FEWEST = 5
"""Rows that make a slice [count]."""
_MOST = 100
"""Values of one column that are looked at, the most frequent first [count]."""
_LENGTHS = (50, 200, 1000)
"""Upper ends of the slices by length of the question [characters]."""


class _Part(NamedTuple):
    column: str
    value: str
    metric: Metric
    compared: Comparison


def slice_of(example: Example, column: str) -> str | None:
    """Return a row's slice: a metadata column, its label, ``turns``, the ``length`` of its question."""
    if column in example.metadata:
        value = example.metadata[column]
        return None if value is None else f"{value:.80}" if isinstance(value, str) else str(value)[:80]
    if column == "label":
        return example.label
    if column == "turns":
        return str(sum(turn.role == "user" for turn in example.prompt))
    if column == "length":
        length = len(example.prompt[-1].content) if example.prompt else 0
        return next((f"up to {end}" for end in _LENGTHS if length <= end), f"over {_LENGTHS[-1]}")
    return None


def compare_slices(task: Task, tuned: EvaluationResult, other: EvaluationResult) -> tuple[Slice, ...]:
    """Compare two subjects on every slice that the settings name, p-values corrected over all of them.

    Args:
        task: Its rows are what is sliced, by ``evaluate.slices``.
        tuned: B of each comparison.
        other: A, such as the best baseline.

    Returns:
        By column, then by value; slices of fewer than five rows are left out.
    """
    found = list(_parts(task, tuned, other))
    adjusted = holm([part.compared.p_value for part in found])
    return tuple(
        Slice(
            column=part.column,
            value=part.value,
            metric=part.metric,
            against=part.compared.a,
            difference=part.compared.difference,
            ci95=part.compared.ci95,
            p_value=p,
            verdict=verdict_of(part.compared.difference, p),
        )
        for part, p in zip(found, adjusted, strict=True)
    )


def _parts(task: Task, tuned: EvaluationResult, other: EvaluationResult) -> Sequence[_Part]:
    a, b = ({p.id: p for p in result.predictions} for result in (other, tuned))
    names = (other.evaluation.subject, tuned.evaluation.subject)
    found = []
    for column in task.config.slices:
        for value, ids in _ids(task, column).items():
            before, after = _of(a, ids), _of(b, ids)
            metric = main_metric_over(task, after)
            if len(ids) < _FEWEST or metric is None or len(before) != len(after):
                continue
            compared = compare(
                before, after, metric=task.main_metric, names=names, options=task.scorer_options
            )
            found.append(_Part(column, value, metric, compared))
    return found


def _ids(task: Task, column: str) -> Mapping[str, Sequence[str]]:
    """Return the ids of each slice's rows, slices in order."""
    ids: dict[str, list[str]] = defaultdict(list)
    for example in task.examples:
        value = slice_of(example, column)
        if value is not None:
            ids[value].append(example.id)
    kept = sorted(ids, key=lambda value: (-len(ids[value]), value))[:_MOST]
    return {value: ids[value] for value in sorted(kept)}


def _of(predictions: Mapping[str, Prediction], ids: Sequence[str]) -> list[Prediction]:
    return [predictions[identity] for identity in ids if identity in predictions]
