"""Graders: the share of answers that pass all graders of the recipe, and each grader's score as a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.graders.config import ERROR, part_name
from tunery.graders.grade import Mark, grade

DECLARATION = Declaration("graders passed", needs=("graders",))


class GraderScorer:
    """1 where an answer passes every grader; each grader's score, from 0 to 1, is a part.

    An answer that a grader could not grade does not pass and scores 0 there; the part ``error`` counts such
    answers, and a warning names the reasons.

    Args:
        options: The graders, whom they may ask, and the part that says which answers are correct.
    """

    def __init__(self, options: ScorerOptions) -> None:
        self._graders, self._models = options.graders, options.models
        self._by_part = {part_name(grader.name): grader for grader in options.graders}
        self._decides = [options.main_part] if options.main_part in self._by_part else [*self._by_part]
        self._marks: dict[tuple[str, str], Mapping[str, Mark]] = {}
        self.part_names = (*self._by_part, ERROR)
        self.warnings: tuple[str, ...] = ()

    def prepare(self, rows: Sequence[tuple[str, Example]]) -> None:
        """Grade all answers of an evaluation at once."""
        marks, warnings = grade(self._graders, rows, self._models)
        self._marks |= {(a, e.id): found for (a, e), found in zip(rows, marks, strict=True)}
        self.warnings = tuple(warnings)

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 where the answer passes every grader, else 0.0."""
        return float(self._passes(prediction, example, [*self._by_part]))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether it passes the grader that the goal names, or all."""
        return self._passes(prediction, example, self._decides)

    def parts(self, prediction: str, example: Example) -> Mapping[str, float]:
        """Return each grader's score in [0, 1], and whether one failed."""
        marks = self._of(prediction, example)
        shares = {part: marks[part].share(grader) for part, grader in self._by_part.items()}
        return {**shares, ERROR: float(any(mark.score is None for mark in marks.values()))}

    def _passes(self, prediction: str, example: Example, parts: Sequence[str]) -> bool:
        marks = self._of(prediction, example)
        return all(marks[part].passes(self._by_part[part]) for part in parts)

    def _of(self, prediction: str, example: Example) -> Mapping[str, Mark]:
        key = (prediction, example.id)
        if key not in self._marks:
            self._marks[key] = grade(self._graders, [(prediction, example)], self._models)[0][0]
        return self._marks[key]


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the recipe's graders.

    Raises:
        ConfigError: There are none.
    """
    if not options.graders:
        raise ConfigError(
            "grader needs graders", hint="set evaluate.graders in the recipe", param="evaluate.graders"
        )
    return GraderScorer(options)
