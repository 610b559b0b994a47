"""Jobs, their events and checkpoints, and the files they read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.config import Record
from tunery.core.progress import Level

JobStatus = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
"""OpenAI's words, and ``paused``, which has none there although jobs are paused there too."""
FINAL_STATUSES: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})


class Job(Record):
    """One durable unit of work, run as a subprocess by whoever holds its lease."""

    id: str
    """``ftjob-…``."""
    kind: Literal["run"]
    """What the worker does: ``run`` executes a recipe."""
    status: JobStatus
    recipe: Mapping[str, Any]
    """The whole recipe."""
    request: Mapping[str, Any]
    """What the client asked for (OpenAI fields), given back on retrieve."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    run_id: str | None = None
    model_version: str | None = None
    """``name@N`` once registered."""
    trained_tokens: int | None = None
    error: Mapping[str, Any] | None = None
    """``code``, ``message``, ``param``."""
    result_files: tuple[str, ...] = ()
    attempts: int = 0
    """Times a worker took it and did not come further than the one before it [count]."""
    worker: str | None = None
    """Who holds the lease; no two holders ever have the same name."""
    claimed_at: datetime | None = None
    """When the newest worker took it."""
    lease_until: datetime | None = None
    cancel_requested: bool = False
    pause_requested: bool = False
    """Whether it is to stop where it is, and to wait until it is resumed."""
    submitted_by: str = "cli"
    """Name of the API key, or ``cli``."""
    keep_refused: bool = False
    """Whether a model that its gate refuses is registered all the same, without an alias."""
    device: str = "local"
    """Machine and device it runs on, once a worker took it; jobs of one device run one after another."""
    project: str = DEFAULT_PROJECT
    """Whose files it reads and whose model it makes."""

    @property
    def stop_requested(self) -> bool:
        """Whether its worker is to stop."""
        return self.cancel_requested or self.pause_requested


class JobEvent(Record):
    """One line of a job's log."""

    id: str
    """``ftevent-…``, sorts by time."""
    job_id: str
    created_at: datetime
    level: Level
    message: str
    type: Literal["message", "metrics"] = "message"
    data: Mapping[str, Any] = {}


class JobCheckpoint(Record):
    """A resumable point that training reached."""

    id: str
    """``ftckpt-…``."""
    job_id: str
    created_at: datetime
    step_number: int
    metrics: Mapping[str, float]


class StoredFile(Record):
    """An uploaded or produced file."""

    id: str
    """``file-…``."""
    filename: str
    """As the client named it; shown, never used as a path."""
    purpose: str
    bytes: int
    sha256: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    project: str = DEFAULT_PROJECT


class Upload(Record):
    """A file that comes in parts."""

    id: str
    """``upload-…``."""
    created_at: datetime
    expires_at: datetime
    """When it no longer waits for its parts."""
    filename: str
    """As the client named it; shown, never used as a path."""
    purpose: str
    bytes: int
    """Size of the whole, as the client announced it [bytes]."""
    file_life_s: int | None = None
    """How long the file is kept once it is whole [s]; None keeps it."""
    status: Literal["pending", "completed", "cancelled", "expired"] = "pending"
    file_id: str | None = None
    """What it became."""
    project: str = DEFAULT_PROJECT


class UploadPart(Record):
    """One part of an upload."""

    id: str
    """``part-…``."""
    created_at: datetime
    upload_id: str
