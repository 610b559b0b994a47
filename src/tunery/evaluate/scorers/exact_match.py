"""Exact match: the answer is the reference, letter for letter."""

from __future__ import annotations

from tunery.core.example import Example
from tunery.evaluate.answer import same_text
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("exact match", auto=("labels", "json", "text"))


class ExactMatch:
    """1 when answer and reference are the same text, see :func:`~tunery.evaluate.answer.same_text`."""

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, example))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the two are the same text."""
        return same_text(prediction, example.reference)


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer; it needs no options."""
    return ExactMatch()
