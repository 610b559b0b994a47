"""Settings of arms that a recipe names: a model behind an endpoint, or answers that are there already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from tunery.core.config import NonEmpty, Settings
from tunery.core.figures import is_prompting_name
from tunery.core.run import BASE, BEST, BEST_ARM, CHAMPION, START, TRAINER, TUNED
from tunery.endpoint.config import EndpointConfig, check_prices
from tunery.evaluate.arms.tfidf import TFIDF

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_TAKEN = frozenset({TUNED, START, CHAMPION, TRAINER, TFIDF, BASE, BEST, BEST_ARM, "best_prompt"})


class EndpointArm(EndpointConfig):
    """A model behind an endpoint that answers the test rows: a larger one, a commercial one, today's."""

    max_tokens: int = Field(default=256, ge=16)
    """Longest answer; the budget reserves it for every request in flight [tokens]."""
    system_prompt: str | None = None
    """System turn of its prompts; by default that of the prompted baselines."""
    shots: Annotated[int, Field(ge=0, le=256)] | Literal["max"] = 0
    """Solved examples before each question, drawn as for `few_shot` within `max_shot_tokens` [count]."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Tokens that all answers may take together, over all runs of a home; a row over it has no answer."""
    budget_usd: float | None = Field(default=None, gt=0)
    """US dollars that they may take together; needs the prices."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        check_prices(self.budget_usd, self)
        return self


class AnswersArm(Settings):
    """Answers that people or another system gave."""

    answers: NonEmpty
    """File with a row an answer: ``id`` of the test row or its ``prompt``, and ``answer``."""


def _kind(value: Any) -> str:
    given = value if isinstance(value, Mapping) else vars(value)
    return "answers" if "answers" in given else "endpoint"


ArmConfig = Annotated[
    Annotated[EndpointArm, Tag("endpoint")] | Annotated[AnswersArm, Tag("answers")], Discriminator(_kind)
]


def _named(arms: Mapping[str, ArmConfig]) -> Mapping[str, ArmConfig]:
    for name in arms:
        if not _NAME.fullmatch(name) or name in _TAKEN or is_prompting_name(name):
            raise ValueError(
                f"{name!r:.60} cannot name an arm: lower-case letters, digits, '_' and '-', and none of "
                f"{', '.join(sorted(_TAKEN))}, zero_shot…, few_shot…"
            )
    return arms


Arms = Annotated[Mapping[str, ArmConfig], AfterValidator(_named)]
