"""Settings of a judge: which model, by which rubric, and how far people must agree with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tunery.endpoint.config import EndpointConfig, check_prices

JudgeKind = Literal["rubric", "pairwise"]
OVERALL, REASON = "overall", "reason"
UNJUDGED = "unjudged"
"""Part of a rubric's scores: 1 for an answer that the judge gave no readable verdict on, else 0."""
_CRITERION = re.compile(r"[a-z][a-z0-9_]{0,40}")
_CRITERIA = {
    "correctness": "what it states is true, and agrees with the reference where there is one",
    "relevance": "it answers what was asked, all of it and nothing else",
    "clarity": "it is well written, in the tone and the form that the conversation asks for",
}


class JudgeConfig(EndpointConfig):
    """A model that judges answers, and its rubric."""

    max_tokens: int = Field(default=512, ge=16)
    """Longest verdict, the reason for it included [tokens]."""
    criteria: Mapping[str, str] = Field(default_factory=lambda: dict(_CRITERIA), min_length=1)
    """What is scored 1 to 5 beside the answer as a whole: the name of each criterion to what it means."""
    rubric: str | None = None
    """What else matters, in words for the judge."""
    show_reference: bool = True
    """Whether the judge is shown the row's own answer as a reference."""
    min_kappa: float = Field(default=0.4, ge=-1, le=1)
    """What the lower end of the 95 % interval of Cohen's kappa with people must reach before a gate may rest
    on this judge; `tunery evaluate judge-check` measures it."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Tokens that the verdicts on one set of rows may take together."""
    budget_usd: float | None = Field(default=None, gt=0)
    """US dollars that they may take together; needs the prices."""

    @field_validator("criteria")
    @classmethod
    def _named(cls, criteria: Mapping[str, str]) -> Mapping[str, str]:
        for name in criteria:
            if not _CRITERION.fullmatch(name) or name in (OVERALL, REASON, UNJUDGED):
                raise ValueError(
                    f"{name!r:.60} cannot name a criterion: lower-case letters, digits and '_', and none of "
                    f"{OVERALL}, {REASON}, {UNJUDGED}"
                )
        return criteria

    @model_validator(mode="after")
    def _priced(self) -> Self:
        check_prices(self.budget_usd, self)
        return self

    @property
    def decides(self) -> dict[str, Any]:
        """The settings that a verdict depends on, JSON-ready; not its price, its pace or its budget."""
        names = {"base_url", "model", "temperature", "top_p", "max_tokens", "extra"}
        names |= {"criteria", "rubric", "show_reference"}
        return self.model_dump(mode="json", include=names)
