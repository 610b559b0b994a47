"""A running job's progress, written as events of the job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tunery.core.progress import Level, ProgressBar, SilentBar
from tunery.pipeline.jobs.files import named_by_id
from tunery.store.workspace import Workspace

_RENAMED = {
    "validation_loss": "valid_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "validation_accuracy": "valid_mean_token_accuracy",
}
_METRICS = frozenset(
    {
        "step",
        "total_steps",
        "train_loss",
        "valid_loss",
        "train_mean_token_accuracy",
        "valid_mean_token_accuracy",
        "full_valid_loss",
        "full_valid_mean_token_accuracy",
    }
)


class JobProgress:
    """Writes a job's events; implements :class:`tunery.core.progress.Progress`.

    Training steps become ``metrics`` events, at most one each ``interval_s``, the first and last and those
    with a validation loss always. A step that an earlier worker reported is not reported again.

    Args:
        interval_s: Least time between two metrics events [s].
        monotonic: Seconds that only grow.
    """

    def __init__(
        self,
        workspace: Workspace,
        job_id: str,
        *,
        interval_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workspace = workspace
        self._job_id = job_id
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._reported_at: float | None = None
        self._looked_at: float | None = None
        self._stopping = False
        self._reported: set[tuple[int, bool]] = set()
        self._messages: set[str] = set()
        self._read_back()

    @contextmanager
    def task(self, description: str, total: float | None) -> Iterator[ProgressBar]:
        """Tell the beginning of a stretch of work, once for all workers of this job."""
        self.event(f"Now {description}")
        yield SilentBar()

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Write one event."""
        message = named_by_id(self._workspace, message)
        numbers = {_RENAMED.get(k, k): v for k, v in (data or {}).items()}
        if "step" in numbers and {"train_loss", "valid_loss"} & numbers.keys():
            self._metrics(message, {k: v for k, v in numbers.items() if k in _METRICS})
            return
        if message in self._messages:
            return
        self._messages.add(message)
        self._workspace.jobs.add_event(self._job_id, message, level=level, data=numbers)

    def stop_requested(self) -> bool:
        """Tell whether someone cancelled or paused the job; looked up at most once each ``interval_s``."""
        now = self._monotonic()
        if self._looked_at is None or now - self._looked_at >= self._interval_s:
            self._looked_at = now
            self._stopping = self._workspace.jobs.get(self._job_id).stop_requested
        return self._stopping

    def _metrics(self, message: str, numbers: Mapping[str, Any]) -> None:
        step, validated = int(numbers["step"]), "valid_loss" in numbers
        now = self._monotonic()
        ends = validated or self._reported_at is None or step >= int(numbers.get("total_steps", step))
        if (step, validated) in self._reported or not (
            ends or now - (self._reported_at or 0.0) >= self._interval_s
        ):
            return
        self._reported.add((step, validated))
        self._reported_at = now
        self._workspace.jobs.add_event(self._job_id, message, type="metrics", data=numbers)

    def _read_back(self) -> None:
        """Remember what earlier workers of this job reported."""
        for event in self._workspace.jobs.every_event(self._job_id):
            if event.type == "metrics" and "step" in event.data:
                self._reported.add((int(event.data["step"]), "valid_loss" in event.data))
            else:
                self._messages.add(event.message)
