"""Exact match: the answer is the reference, letter for letter."""

from __future__ import annotations

from tunery.evaluate.answer import squeeze
from tunery.evaluate.scorers import Scorer, ScorerOptions


class ExactMatch:
    """1 when answer and reference are the same text.

    White space around the text does not count and runs of it count as one space; case, punctuation and
    everything else counts.
    """

    def score(self, prediction: str, reference: str) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, reference))

    def correct(self, prediction: str, reference: str) -> bool:
        """Return whether the two are the same text."""
        return squeeze(prediction) == squeeze(reference)


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer; it needs no options."""
    return ExactMatch()
