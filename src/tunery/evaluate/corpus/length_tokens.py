"""Length of answers in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import Corpus
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

LENGTH = "answer_tokens"
"""Per-row number of the same name."""
DECLARATION = Declaration(
    "answer length", higher_is_better=False, judged_by="exact_match", unit="tokens", scores=(LENGTH,)
)


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return the mean length of an answer."""
    return Corpus(columns, lambda sums: sums[:, 0] / sums[:, 1])


def columns(rows: Sequence[Row]) -> Floats:
    """Return lengths and ones, shape ``(n, 2)``."""
    import numpy as np

    return np.asarray([[row.scores[LENGTH], 1.0] for row in rows], dtype=np.float64)
