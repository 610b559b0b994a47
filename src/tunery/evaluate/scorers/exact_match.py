"""Exact match: the answer is the reference, letter for letter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.text.answer import same_text, squeeze

DECLARATION = Declaration("exact match", auto=("labels", "json", "text"))


class ExactMatch:
    """1 when answer and reference are the same text, see :func:`~tunery.text.answer.same_text`.

    Args:
        labels: The closed set, if references are drawn from one; of labels that only spacing tells apart the
            spacing counts.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        counts = Counter(map(squeeze, set(labels)))
        self._by_spacing = frozenset(label for label in labels if counts[squeeze(label)] > 1)

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, example))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the two are the same text."""
        if example.reference in self._by_spacing or prediction in self._by_spacing:
            return prediction == example.reference
        return same_text(prediction, example.reference)


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer; labels are all it asks for, where there are any."""
    return ExactMatch(options.labels or ())
