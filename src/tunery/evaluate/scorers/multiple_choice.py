"""Multiple choice: whether the likeliest of the answers that a row offers is the right one."""

from __future__ import annotations

from collections.abc import Mapping

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.text.answer import same_text

DECLARATION = Declaration("multiple choice right")


class MultipleChoice:
    """1 when the answer is the reference; a row's ``kind`` in its metadata makes a part of it."""

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, example))

    def parts(self, prediction: str, example: Example) -> Mapping[str, float]:
        """Return the same under the row's ``kind``, where it has one."""
        kind = example.metadata.get("kind")
        return {str(kind): self.score(prediction, example)} if kind else {}

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the two are the same text."""
        return same_text(prediction, example.reference)


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer."""
    return MultipleChoice()
