"""Settings of a published benchmark."""

from __future__ import annotations

from pydantic import Field

from tunery.core.config import Settings


class BenchmarkConfig(Settings):
    """A task of lm-evaluation-harness, and how it is put to a model."""

    task: str
    """``mmlu_sample``, ``hellaswag_sample`` or ``gsm8k_sample``, whose rows come with the package; ``mmlu``,
    ``hellaswag`` or ``gsm8k`` from ``data``; else any task or group of the harness, its rows from the hub."""
    data: str | None = None
    """Folder with a folder for each benchmark that holds its published files."""
    limit: int | None = Field(default=None, ge=1)
    """First items to use at most; of MMLU of each subject, of a group of each task [count]."""
    chat: bool = False
    """Write each prompt as a user's turn by the chat template."""
