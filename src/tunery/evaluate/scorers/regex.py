"""Regex: the answer matches a pattern."""

from __future__ import annotations

from typing import Any

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("answers of the pattern", checks_form=True)
_LONGEST_S = 0.25
"""A match may take; a pattern that goes back and forth on an answer matches it not."""


class Regex:
    """1 when the whole answer matches ``evaluate.pattern``; with ``(?s).*`` on both sides, a part of it.

    Matching stops after a quarter of a second, and the answer then counts as not matching.
    """

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.valid(prediction))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the answer matches."""
        return self.valid(prediction)

    def valid(self, prediction: str) -> bool:
        """Return whether the answer matches."""
        try:
            return self._pattern.fullmatch(prediction, timeout=_LONGEST_S) is not None
        except TimeoutError:
            return False


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the pattern that is set.

    Raises:
        ConfigError: There is none, or it is no pattern.
    """
    import regex  # type: ignore[import-untyped]  # ships no types

    if options.pattern is None:
        raise ConfigError(
            "regex holds answers against a pattern, and none is set",
            hint="evaluate.pattern='[A-Z]{2}[0-9]+'",
            param="evaluate.pattern",
        )
    try:
        return Regex(regex.compile(options.pattern))
    except regex.error as error:
        problem = f"evaluate.pattern: {options.pattern!r}: {error}"
        raise ConfigError(problem, param="evaluate.pattern") from None
