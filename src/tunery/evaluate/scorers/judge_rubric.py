"""Judge's rubric: a model scores each answer from 1 to 5 by named criteria and as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tunery.core.errors import ConfigError
from tunery.core.example import Example, Message
from tunery.core.judging import NoAnswer
from tunery.evaluate.judges.config import UNJUDGED, JudgeConfig
from tunery.evaluate.judges.prompts import (
    HIGHEST,
    LOWEST,
    Rating,
    rating_form,
    rating_turns,
    read_rating,
)
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("judge's score", needs=("judge",))
_GOOD = 4
"""Least overall score of an answer that counts as right."""


class JudgeRubric:
    """The overall score, 1 to 5 as 0 to 1; each criterion is a part.

    An answer that the judge gave no readable verdict on scores 0 everywhere, and 1 in the part ``unjudged``:
    it is an error that is counted, and can win nothing.
    """

    def __init__(self, config: JudgeConfig, judge: Callable[[Sequence[Message]], str]) -> None:
        self._config = config
        self._judge = judge
        self.form = rating_form(config)
        self.part_names = (*config.criteria, UNJUDGED)

    def questions(self, prediction: str, example: Example) -> list[list[Message]]:
        """Return what the judge is asked about an answer."""
        return [rating_turns(self._config, example.prompt, prediction, reference=example.reference)]

    def score(self, prediction: str, example: Example) -> float:
        """Return the overall score in [0, 1]."""
        rating = self._rating(prediction, example)
        return 0.0 if rating is None else _share(rating.overall)

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the judge calls the answer good or better."""
        rating = self._rating(prediction, example)
        return rating is not None and rating.overall >= _GOOD

    def parts(self, prediction: str, example: Example) -> Mapping[str, float]:
        """Return each criterion's score in [0, 1], and whether there is no verdict."""
        rating = self._rating(prediction, example)
        if rating is None:
            return {**dict.fromkeys(self._config.criteria, 0.0), UNJUDGED: 1.0}
        return {**{name: _share(score) for name, score in rating.criteria.items()}, UNJUDGED: 0.0}

    def _rating(self, prediction: str, example: Example) -> Rating | None:
        try:
            verdict = self._judge(self.questions(prediction, example)[0])
        except NoAnswer:
            return None
        return read_rating(verdict, tuple(self._config.criteria))


def _share(score: int) -> float:
    return (score - LOWEST) / (HIGHEST - LOWEST)


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer with the task's judge.

    Raises:
        ConfigError: The task has none.
    """
    if options.judge is None or options.models.judge is None:
        raise ConfigError(
            "judge_rubric needs a model that judges",
            hint="set evaluate.judge.base_url and evaluate.judge.model",
            param="evaluate.judge",
        )
    return JudgeRubric(options.judge, options.models.judge)
