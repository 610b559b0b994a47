"""What training saw of each row, pass after pass, and which rows stay hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

RowLosses = Mapping[str, Sequence[float]]
"""Row's id to its losses in the order of the passes, those that are no numbers left out [nats]."""
_FEWEST_ROWS = 20
"""Rows of a pass that must be there before their median says anything [rows]."""
_FEWEST_PASSES = 2
_DEVIATIONS = 3.0
_STILL = 0.5
_OF_NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


class HardRow(NamedTuple):
    """A row that training does not learn as it learns others."""

    id: str
    losses: tuple[float, ...]
    """One a pass [nats]."""


def stay_hard(losses: RowLosses) -> list[HardRow]:
    """Return the rows that stay hard, the one with the highest last loss first.

    A row does where its loss was in every pass behind the first more than three robust standard deviations
    (by the median absolute deviation) above the median of that pass, and in the middle of those passes at
    least half of what a usual row had in the first one; all of it where there was one such pass alone. None
    does where the first pass has fewer than 20 rows.
    """
    passes = max(map(len, losses.values()), default=0)
    each = [[row[i] for row in losses.values() if len(row) > i] for i in range(passes)]
    if passes < _FEWEST_PASSES or len(each[0]) < _FEWEST_ROWS:
        return []
    usual = median(each[0])
    bounds = [usual]
    for values in each[1:]:
        # A last pass that has only begun says little of what is usual in it; the one before does.
        bounds.append(_bound(values) if len(values) >= _FEWEST_ROWS else bounds[-1])
    hard = [
        HardRow(identity, tuple(row))
        for identity, row in losses.items()
        if len(row) >= _FEWEST_PASSES
        and median(row[1:]) >= usual * (_STILL if len(row) > _FEWEST_PASSES else 1.0)
        and all(loss > bound for loss, bound in zip(row[1:], bounds[1:], strict=False))
    ]
    return sorted(hard, key=lambda row: (-row.losses[-1], row.id))


def _bound(values: Sequence[float]) -> float:
    middle = median(values)
    return middle + _DEVIATIONS * _OF_NORMAL * median(abs(value - middle) for value in values)
