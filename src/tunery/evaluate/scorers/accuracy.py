"""Accuracy: the answer names the right label of a closed set."""

from __future__ import annotations

from tunery.core.errors import ConfigError
from tunery.evaluate.answer import LabelReader
from tunery.evaluate.scorers import Scorer, ScorerOptions


class LabelMatch:
    """1 when the answer names the reference's label, read by :class:`~tunery.evaluate.answer.LabelReader`.

    More lenient than exact match about case, quotes, a closing full stop and underscores, so that a
    prompted base model is not marked down for style.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._reader = LabelReader(labels)

    def score(self, prediction: str, reference: str) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, reference))

    def correct(self, prediction: str, reference: str) -> bool:
        """Return whether both name the same label; a reference outside the set is matched by none."""
        named = self._reader.read(prediction)
        return named is not None and named == self._reader.read(reference)


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
