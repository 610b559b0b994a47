"""How far a model's confidence can be trusted, and from where on its answers hold a stated error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.core.evaluation import Calibration, CoveragePoint
from tunery.core.ids import sha256_text

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row

CONFIDENCE = "confidence"
"""Per-row number: probability that the model gave to its answer as a whole, stop token included."""
_DELTA = 0.05
"""Chance that the threshold found does not hold the error."""
_POINTS = 20


def calibration(rows: Sequence[Row], max_error: float) -> Calibration:
    """Return the risk-coverage curve of rows and the confidence from which on errors are rare.

    Args:
        rows: Answers that have a confidence and are judged; at least one.
        max_error: Share of wrong answers among those given that is to be held, in (0, 1).

    Source:
        Geifman & El-Yaniv (2017), NeurIPS, 4878-4887, for the curve and its area; Angelopoulos et al. (2021),
        arXiv 2110.01052, section 2.3, for testing thresholds in a fixed sequence.
    """
    import numpy as np

    ranked = sorted(rows, key=lambda row: (-row.scores[CONFIDENCE], row.id))
    wrong = np.cumsum([not row.correct for row in ranked])
    given = np.arange(1, len(ranked) + 1)
    places = sorted({max(1, round(len(ranked) * i / _POINTS)) for i in range(1, _POINTS + 1)})
    threshold = threshold_for([row for row in rows if is_for_choice(row)], max_error)
    held = [
        r
        for r in rows
        if not is_for_choice(r) and threshold is not None and r.scores[CONFIDENCE] >= threshold
    ]
    return Calibration(
        aurc=float(np.mean(wrong / given)),
        curve=tuple(CoveragePoint(coverage=n / len(ranked), error=float(wrong[n - 1] / n)) for n in places),
        max_error=max_error,
        threshold=threshold,
        checked=len(held),
        checked_wrong=sum(not row.correct for row in held),
    )


def is_for_choice(row: Row) -> bool:
    """Return whether a row is of the half that thresholds are chosen on; the other half checks them."""
    return int(sha256_text(row.id)[:8], 16) % 2 == 0


def threshold_for(rows: Sequence[Row], max_error: float) -> float | None:
    """Return the lowest confidence from which on at most ``max_error`` of the answers are wrong.

    Thresholds are tested from the strictest down, each by the exact binomial test of 'more are wrong'; the
    first that is not rejected ends the search, so that all tests together err with a chance of 5 %. The
    strictest is the first under which enough answers lie to reject at all: 149 for an error of 2 %.

    Returns:
        The threshold; None where not even the strictest holds the error.
    """
    from scipy.stats import binom

    ranked = sorted(rows, key=lambda row: -row.scores[CONFIDENCE])
    found, wrong = None, 0
    for given, row in enumerate(ranked, start=1):
        wrong += not row.correct
        tied = given < len(ranked) and ranked[given].scores[CONFIDENCE] == row.scores[CONFIDENCE]
        if tied or (1 - max_error) ** given > _DELTA:
            continue
        if binom.cdf(wrong, given, max_error) > _DELTA:
            break
        found = row.scores[CONFIDENCE]
    return found
