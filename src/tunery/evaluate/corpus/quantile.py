"""Quantiles as statistics of sums: how many rows have each value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import Corpus

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

_NEAR, _ELSEWHERE = 300, 100
"""Values next to a side's own quantile, and over all rows, that are told apart [count]."""


def quantile(share: float, score: str, sides: Sequence[Sequence[Row]]) -> Corpus:
    """Return the smallest value that at least ``share`` of the rows do not exceed.

    Of each side it is exact, as are resamples within 300 rows of it; farther off values are rounded up to one
    of a hundred.

    Args:
        share: In (0, 1).
        score: The per-row number.
        sides: Rows of every subject.
    """
    import numpy as np

    edges: list[Floats] = []
    pooled = [row for side in sides for row in side]
    for some in (*sides, pooled):
        values = np.sort([row.scores[score] for row in some])
        at = int(np.ceil(share * len(values))) - 1
        edges.append(values[max(0, at - _NEAR) : at + _NEAR])
        edges += [values[:: max(1, len(values) // _ELSEWHERE)], values[-1:]]
    bounds = np.unique(np.concatenate(edges))

    def columns(rows: Sequence[Row]) -> Floats:
        counts = np.zeros((len(rows), len(bounds)))
        places = np.searchsorted(bounds, [row.scores[score] for row in rows])
        counts[np.arange(len(rows)), places] = 1
        return counts

    def of_sums(sums: Floats) -> Floats:
        below = np.cumsum(sums, axis=1)
        enough = below >= share * below[:, -1:] - 1e-9
        values: Floats = bounds[enough.argmax(axis=1)]
        return values

    return Corpus(columns, of_sums)
