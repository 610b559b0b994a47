"""Accuracy: the answer names the right label of a closed set."""

from __future__ import annotations

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.text.answer import LabelReader

DECLARATION = Declaration("accuracy", needs=("labels",), checks_form=True, auto=("labels",))


class LabelMatch:
    """1 when the answer names the reference's label, read by :class:`~tunery.text.answer.LabelReader`.

    More lenient than exact match about case, quotes, a closing full stop and underscores, so that a
    prompted base model is not marked down for style.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._reader = LabelReader(labels)

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, example))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether both name the same label; a reference outside the set is matched by none."""
        named = self._reader.read(prediction)
        return named is not None and named == self._reader.read(example.reference)

    def valid(self, prediction: str) -> bool:
        """Return whether the answer names any label."""
        return self._reader.read(prediction) is not None


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the task's labels.

    Raises:
        ConfigError: The task has no closed label set.
    """
    if not options.labels:
        raise ConfigError(
            "accuracy counts right labels, and the outputs of this data are no closed label set",
            hint="use the metric exact_match",
            param="metrics",
        )
    return LabelMatch(options.labels)
