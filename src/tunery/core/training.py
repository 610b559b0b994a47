"""What training leaves behind: an adapter to serve and a history to read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from tunery.core.config import Record

ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""Name that PEFT gives an adapter's weights."""
CHAT_TEMPLATE = "chat_template.jinja"
"""Name that transformers gives a tokenizer's chat template."""
GENERATION_CONFIG = "generation_config.json"
"""Name that transformers gives what says where a model stops."""
ADAPTER_CONFIG = "adapter_config.json"
"""Name that PEFT gives what an adapter is: its rank, its alpha, its layers."""
KEPT_STEPS = "steps"
"""Folder within an adapter's own that holds those of kept checkpoints, ``step-N`` each."""
WHOLE_MODEL = "model"
"""Folder within an adapter's own that holds all weights, where training made a model of its own."""


def kept_steps(folder: Path) -> list[int]:
    """Return the steps whose adapters lie within a folder, ascending."""
    found = (re.fullmatch(r"step-(\d+)", path.name) for path in (folder / KEPT_STEPS).glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def step_folder(folder: Path, step: int) -> Path:
    """Return where within an adapter's folder that of a kept checkpoint lies."""
    return folder / KEPT_STEPS / f"step-{step}"


def with_its_manifest(folder: Path) -> Path:
    """Return the folder whose manifest names an adapter's files: its own, or the one it was kept within."""
    return folder.parents[1] if folder.parent.name == KEPT_STEPS else folder


class BaseModelInfo(Record):
    """Frozen weights, named and hashed."""

    name: str
    """``smollm2-135m-instruct``, a folder's name, or a hub id."""
    sha256: str
    """Hash over the checksums of its weight, configuration and tokenizer files."""
    path: str
    """Folder with safetensors, configuration and tokenizer."""
    parameters: int
    """Parameters [count]."""
    license: str | None = None
    origin: str | None = None
    files: Mapping[str, str] = {}
    """SHA-256 of each of these files by name, so that a changed one can be named; empty in old records."""
    chat_template: str | None = None
    """Name of the template that takes the place of the base's own; None where it has its own."""
    origin_path: str | None = None
    """Folder of the base with its own template, where it has another one here."""
    hosted: Mapping[str, Any] | None = Field(default=None, exclude_if=lambda hosted: hosted is None)
    """Settings of the engine that forwards to it, where it is behind somebody's endpoint; never a key."""

    @property
    def label(self) -> str:
        """``name@sha256:first 12 digits``."""
        return f"{self.name}@sha256:{self.sha256[:12]}"


class StepLog(Record):
    """One logged point of training."""

    step: int
    epoch: float
    train_loss: float | None = None
    """The method's loss of this step's batch, as the mean over completion tokens [nats]."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    validation_loss: float | None = None
    """The same of the validation split [nats]."""
    metrics: Mapping[str, float] = {}
    """What the method measures besides, of this step's batch and of the validation split, such as
    ``train/reward_margin`` and ``validation/preference_accuracy``."""
    seconds: float | None = None
    """Since the start of training [s]."""


class Adapter(Record):
    """What training made of a base: small weights on top of it, which open in plain PEFT, or all weights."""

    id: str
    """``adapter-`` and 16 hex digits: hash of base, dataset version and train settings."""
    base: BaseModelInfo
    dataset_version: str
    config: Mapping[str, Any]
    """Train settings."""
    start_adapter: str | None = None
    """Adapter of the training before, whose weights this one began with; None where it began anew."""
    sha256: str
    """Of :data:`ADAPTER_WEIGHTS`; of all weights that of :attr:`model`."""
    model: BaseModelInfo | None = None
    """All weights, where training made a model of its own: full fine-tuning, or an adapter that was merged.
    Its path is within the adapter's folder; None for an adapter on the base."""
    chat_template_sha256: str
    system_prompt: str | None
    day: date | None = None
    """Day that the chat template wrote into every prompt of training; None where it writes none."""
    trainable_parameters: int
    steps: int
    best_step: int
    """Whose weights these are: of the best validation by ``train.best_by``, or the last by ``train.keep``."""
    trained_tokens: int
    """Prompt and completion tokens seen, epochs counted [count]."""
    seconds: float
    """Training wall time, interruptions not counted [s]."""
    history: tuple[StepLog, ...]
    created_at: datetime

    @property
    def loaded_as(self) -> str | None:
        """Name under which an engine of its base holds it; None where it is a base of its own."""
        return self.id if self.model is None else None

    @property
    def asked_on(self) -> date:
        """Day that a template which writes one must go on writing: that of training.

        Adapters of earlier versions do not say which it was; they were trained on the day they were made.
        """
        return self.day or self.created_at.astimezone(UTC).date()
