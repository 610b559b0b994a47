"""What is known of fine-tuned models at their source, and what is saved of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator

from tunery.core.config import NonEmpty, Record
from tunery.core.forwarding import Shutdown
from tunery.endpoint.config import Account, NamedLimit, check_url


class Scope(NamedLimit, Account):
    """One account at a source: what one key sees. The key itself is neither here nor anywhere on disk."""

    name: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    """As this rescue calls it."""
    base_url: NonEmpty = "https://api.openai.com/v1"
    """Address up to and including the version; ``https://NAME.openai.azure.com/openai/v1`` at Azure."""
    api_key_env: str | None = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key; None where ``api_key_file`` is given."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, url: str) -> str:
        return check_url(url)

    def of_model(self, model: str) -> dict[str, Any]:
        """Return the settings of whatever asks a model of this account; the key is none of them."""
        return {**self.model_dump(mode="json", exclude={"name"}, exclude_none=True), "model": model}


FileState = Literal["listed", "fetched", "gone"]
"""Of a file: at the source only, here too with its checksum, or at the source no more."""


class SourceFile(Record):
    """A file at the source, such as one that a model was trained on."""

    id: str
    """``file-…``."""
    scope: str
    filename: str
    """As the source names it; shown, never used as a path."""
    purpose: str
    bytes: int
    created_at: datetime | None = None
    state: FileState = "listed"
    sha256: str | None = None
    """Of its bytes here; None while it is not."""
    path: str | None = None
    """Where it lies, relative to the rescue's folder; None while it does not."""
    form: Literal["csv", "base64"] | None = None
    """Of a result file here: whether its bytes are the CSV, or the CSV in base64; None where neither."""
    metrics: Mapping[str, float] = {}
    """Of a result file here: the newest value of each metric."""


class JobPapers(Record):
    """All that a source says of one job, as it says it; ``jobs/ftjob-….json``."""

    scope: str
    job: Mapping[str, Any]
    events: tuple[Any, ...] = ()
    """Newest first, as the source lists them."""
    checkpoints: tuple[Any, ...] = ()
    problems: tuple[str, ...] = ()
    """What of it could not be read; the next inventory tries again."""


class SourceCheckpoint(Record):
    """A checkpoint of a job, which answers under a name of its own there."""

    id: str
    name: str
    """``ft:…:ckpt-step-N``."""
    step: int
    metrics: Mapping[str, float] = {}


class SourceJob(Record):
    """A fine-tuning job at the source; its own record, events and checkpoints lie whole beside it."""

    id: str
    """``ftjob-…``."""
    scope: str
    base: str
    """Model that was trained, such as ``gpt-4o-mini-2024-07-18``."""
    status: str
    method: str = "supervised"
    """``supervised``, ``dpo``, ``reinforcement``, or what the source calls it."""
    hyperparameters: Mapping[str, Any] = {}
    """As the source gives them, ``auto`` included."""
    suffix: str | None = None
    seed: int | None = None
    training_file: str | None = None
    validation_file: str | None = None
    result_files: tuple[str, ...] = ()
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    checkpoints: tuple[SourceCheckpoint, ...] = ()
    events: int = 0
    """Lines of its log [count]."""


class SourceModel(Record):
    """A fine-tuned model at the source."""

    id: str
    """``ft:…``."""
    scope: str
    base: str
    job_id: str | None = None
    """Job that made it; None where none that can be listed did."""
    created_at: datetime | None = None
    answers: bool | None = None
    """Whether ``GET /models`` lists it; None where that could not be read."""
    shutdown: Shutdown | None = None
    """None where nothing is known."""


class Inventory(Record):
    """All that a source has, as of one moment."""

    read_at: datetime
    scopes: tuple[Scope, ...]
    models: tuple[SourceModel, ...] = ()
    jobs: tuple[SourceJob, ...] = ()
    files: tuple[SourceFile, ...] = ()
    problems: tuple[str, ...] = ()
    """What could not be read, a sentence each."""


Portion = Literal["train", "validation", "holdout"]
"""What a prompt is for; one of the hold-out never trains, whatever else it is found in."""


class RecordedPrompt(Record):
    """A prompt that the old model is to answer, or has answered."""

    id: str
    """Hash of what was asked; the same prompt from two places is one."""
    portion: Portion
    origin: str
    """Where it is from: ``training_file``, ``validation_file``, ``log``, ``stored``, ``requests``."""
    messages: tuple[Mapping[str, Any], ...]
    """Turns as OpenAI has them, without the answer."""
    tools: tuple[Mapping[str, Any], ...] = ()
    truth: str | None = None
    """Answer of the row that the prompt is from, as its owner wrote it; None where there is none."""


class Recording(RecordedPrompt):
    """What the old model answered to a prompt: a golden answer."""

    model: str
    """Who answered, ``ft:…``."""
    answer: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish: str = "stop"
    logprobs: tuple[Mapping[str, Any], ...] = ()
    """Of each token of the answer: ``token``, ``logprob``, ``top_logprobs`` as OpenAI gives them; empty where
    the source offers none."""
    at: datetime
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
