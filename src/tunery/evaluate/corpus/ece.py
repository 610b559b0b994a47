"""Expected calibration error: how far confidence and the share of right answers are apart."""

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
    "calibration error", higher_is_better=False, judged_by="exact_match", scores=(CONFIDENCE,)
)
_BINS = 15


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return the mean distance of confidence and accuracy over 15 bins of equally many rows.

    Right is what the main metric's scorer calls so. The figure is above 0 by chance even for a calibrated
    model; compare two of the same rows.

    Source:
        Nixon et al. (2019), CVPR workshops, 38-41, on bins of equal mass.
    """
    import numpy as np

    values = [row.scores[CONFIDENCE] for side in sides for row in side]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))

    def columns(rows: Sequence[Row]) -> Floats:
        found = np.zeros((len(rows), len(edges) + 1, 2))
        for i, row in enumerate(rows):
            confidence = row.scores[CONFIDENCE]
            found[i, np.searchsorted(edges, confidence, side="right")] = (confidence - bool(row.correct), 1)
        return found.reshape(len(rows), -1)

    return Corpus(columns, of_sums)


def of_sums(sums: Floats) -> Floats:
    """Return the error of summed (confidence minus right, rows) of bins, ``(k, 2 * n_bins)`` to ``(k,)``."""
    import numpy as np

    apart, rows = np.moveaxis(sums.reshape(len(sums), -1, 2), 2, 0)
    values: Floats = np.abs(apart).sum(axis=1) / rows.sum(axis=1)
    return values
