"""Settings of synthetic rows: which teacher writes them, how many, and what they may cost."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tunery.core.config import NonEmpty, Settings
from tunery.endpoint.config import EndpointConfig, check_prices

Method = Literal["paraphrase", "label", "self_instruct"]
Language = Literal["auto", "any", "en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "pl", "cs", "tr"]


class TeacherConfig(EndpointConfig):
    """The model that writes rows, behind its endpoint."""

    temperature: float = Field(default=0.9, ge=0, le=2)
    """Higher gives more varied rows and more wrong ones."""


class JudgeConfig(Settings):
    """A second look at every row: a model scores it from 1 to 5 and weak rows go."""

    threshold: int = Field(default=4, ge=1, le=5)
    """Lowest score that is kept."""
    rubric: str | None = None
    """What matters beyond the general rubric, in plain words."""
    teacher: TeacherConfig | None = None
    """Who judges; left out, the teacher itself does, at temperature 0."""


class RowJudgeConfig(Settings):
    """A model's opinion, 1 to 5, of rows that a dataset version already has."""

    judge: TeacherConfig
    """Who judges; at temperature 0 unless another is set here."""
    rubric: str | None = None
    """What matters beyond the general rubric, in plain words."""
    rows_per_request: int = Field(default=5, ge=1, le=50)
    """Rows put before the judge in one request; more is cheaper and less careful [rows]."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Tokens that may be spent on the rows, in all calls together [tokens]."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Money that may be spent on the rows, in all calls together; needs the prices [US dollars]."""

    @field_validator("judge", mode="before")
    @classmethod
    def _at_rest(cls, judge: object) -> object:
        return {"temperature": 0.0, **judge} if isinstance(judge, dict) else judge

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_prices(self.budget_usd, self.judge)
        return self


class SynthesiseConfig(Settings):
    """How synthetic rows are written after the training rows of a dataset version."""

    method: Method
    """``paraphrase``: new inputs that say the same, same output; ``label``: new inputs for a given class;
    ``self_instruct``: new inputs with new outputs, after the manner of some rows."""
    rows: int = Field(ge=1)
    """Rows wanted in the end, after filtering [rows]."""
    teacher: TeacherConfig
    """Who writes the rows."""
    judge: JudgeConfig | None = None
    """Scores what was written; left out, nobody does."""
    task: str | None = None
    """What the tuned model is for, in a sentence; left out, the recipe's description or system prompt."""
    labels: tuple[NonEmpty, ...] = ()
    """Classes to write for (method ``label``); left out, all of them in turn."""
    rows_per_request: int = Field(default=5, ge=1, le=50)
    """Rows in one request; more is cheaper and less varied [rows]."""
    examples: int = Field(default=5, ge=1, le=50)
    """Training rows shown in one request (methods ``label`` and ``self_instruct``) [rows]."""
    language: Language = "auto"
    """Rows plainly in another language are rejected; ``auto`` takes the language of the training rows,
    ``any`` does not look."""
    max_similarity: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of character 4-grams from which a row repeats a row of the dataset or another
    synthetic one."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Tokens that may be spent on this file, in all calls together [tokens]."""
    budget_usd: float | None = Field(default=None, gt=0)
    """Money that may be spent on this file, in all calls together; needs the prices [US dollars]."""
    max_requests: int | None = Field(default=None, ge=1)
    """Requests to the teacher at most; left out, five times as many as would do if every row were kept."""
    seed: int = 0
    """Another seed shows the teacher other rows in another order."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.labels and self.method != "label":
            raise ValueError(f"labels go with method label, not with {self.method}")
        payers = [self.teacher, *([self.judge.teacher] if self.judge and self.judge.teacher else [])]
        check_prices(self.budget_usd, *payers)
        return self

    @property
    def most_requests(self) -> int:
        """Requests after which the call ends, however few rows came of them."""
        return self.max_requests or 5 * -(-self.rows // self.rows_per_request)

    @property
    def judging(self) -> TeacherConfig | None:
        """Who judges, with the settings it judges by; None where nobody does."""
        if self.judge is None:
            return None
        return self.judge.teacher or self.teacher.model_copy(update={"temperature": 0.0, "top_p": None})
