"""Settings of synthetic rows: which teacher writes them, how many, and what they may cost."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tunery.core.config import NonEmpty, Settings

Method = Literal["paraphrase", "label", "self_instruct"]
Language = Literal["auto", "any", "en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "pl", "cs", "tr"]


class TeacherConfig(Settings):
    """A model behind an endpoint that speaks the chat-completions protocol."""

    base_url: str
    """Address up to and including the version, such as ``https://api.example.com/v1``."""
    model: NonEmpty
    """The model's name, as the endpoint knows it."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key, never the key itself; left out, none is sent."""
    temperature: float = Field(default=0.9, ge=0, le=2)
    """Higher gives more varied rows and more wrong ones."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling; left out, the endpoint decides."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest answer to one request; the budget reserves it for every request in flight [tokens]."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls that limit; models that think before they answer want the second name."""
    price_prompt: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens [US dollars]."""
    price_completion: float | None = Field(default=None, ge=0)
    """Price of a million answer tokens [US dollars]."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests in flight at once."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for one answer [s]."""
    attempts: int = Field(default=6, ge=1)
    """Tries of one request that meets 408, 429, a 5xx, a timeout or a broken connection."""
    backoff_s: float = Field(default=1.0, gt=0)
    """Upper end of the random wait before the second try; it doubles with each further one [s]."""
    max_wait_s: float = Field(default=120.0, gt=0)
    """Longest wait before a try. An endpoint that asks for a longer one by Retry-After ends the call [s]."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must begin with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold neither user, password, query nor fragment; use api_key_env for keys")
        return url.rstrip("/").removesuffix("/chat/completions")

    @property
    def host(self) -> str:
        """The endpoint's host, with its port where the address has one."""
        return urlsplit(self.base_url).netloc

    @property
    def is_open_to_listeners(self) -> bool:
        """Whether requests leave this machine unencrypted."""
        parts = urlsplit(self.base_url)
        return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost; nothing where no price is known [US dollars]."""
        prompt, completion = self.price_prompt or 0.0, self.price_completion or 0.0
        return (prompt_tokens * prompt + completion_tokens * completion) / 1_000_000


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


def check_prices(budget_usd: float | None, *payers: TeacherConfig) -> None:
    """Refuse a budget in money where someone's prices are not known.

    Raises:
        ValueError: Says which settings are missing.
    """
    if budget_usd is not None and any(p.price_prompt is None or p.price_completion is None for p in payers):
        raise ValueError("a budget in money needs price_prompt and price_completion of teacher and judge")


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
