"""Brier score: squared distance of confidence from what came true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.calibration import CONFIDENCE
from tunery.evaluate.corpus import Corpus
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

DECLARATION = Declaration(
    "Brier score", higher_is_better=False, judged_by="exact_match", unit="number", scores=(CONFIDENCE,)
)


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return the mean of (confidence - right)²."""
    return Corpus(columns, lambda sums: sums[:, 0] / sums[:, 1])


def columns(rows: Sequence[Row]) -> Floats:
    """Return squares and ones, shape ``(n, 2)``."""
    import numpy as np

    return np.asarray([[(row.scores[CONFIDENCE] - bool(row.correct)) ** 2, 1.0] for row in rows])
