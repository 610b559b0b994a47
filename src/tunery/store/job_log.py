"""What a job said while it ran: its events, and the points it can resume from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tunery.core.clock import Clock
from tunery.core.ids import new_id
from tunery.core.job import JobCheckpoint, JobEvent
from tunery.core.progress import Level
from tunery.store.database import Database
from tunery.store.records import Page, Records, TableLayout

_EVENTS = TableLayout("job_events", JobEvent, "job event", ("id", "created_at", "job_id"))
_CHECKPOINTS = TableLayout("job_checkpoints", JobCheckpoint, "job checkpoint", ("id", "created_at", "job_id"))


class JobLog:
    """Events and checkpoints of all jobs; the job itself is known to exist."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._events = Records(database, _EVENTS)
        self._checkpoints = Records(database, _CHECKPOINTS)

    def add_event(
        self,
        job_id: str,
        message: str,
        *,
        level: Level,
        type: Literal["message", "metrics"],
        data: Mapping[str, Any],
    ) -> JobEvent:
        """Add a line."""
        now = self._clock.now()
        event = JobEvent(
            id=new_id("ftevent", now),
            job_id=job_id,
            created_at=now,
            level=level,
            message=message,
            type=type,
            data=data,
        )
        return self._events.add(event)

    def events(self, job_id: str, after: str | None, limit: int) -> Page[JobEvent]:
        """Return lines of one job, newest first."""
        return self._events.page(where={"job_id": job_id}, after=after, limit=limit)

    def every_event(self, job_id: str) -> Iterator[JobEvent]:
        """Yield all lines of one job, newest first."""
        return self._events.every({"job_id": job_id})

    def add_checkpoint(self, job_id: str, step_number: int, metrics: Mapping[str, float]) -> JobCheckpoint:
        """Note a point; a job that was taken over passes the same steps again and they are noted once."""
        with self._database.transaction(lock=f"job_checkpoints/{job_id}") as transaction:
            noted = self._checkpoints.select(transaction, "WHERE job_id = :job_id", {"job_id": job_id})
            for checkpoint in noted:
                if checkpoint.step_number == step_number:
                    return checkpoint
            now = self._clock.now()
            return self._checkpoints.insert(
                transaction,
                JobCheckpoint(
                    id=new_id("ftckpt", now),
                    job_id=job_id,
                    created_at=now,
                    step_number=step_number,
                    metrics=metrics,
                ),
            )

    def checkpoints(self, job_id: str, after: str | None, limit: int) -> Page[JobCheckpoint]:
        """Return the points of one job, newest first."""
        return self._checkpoints.page(where={"job_id": job_id}, after=after, limit=limit)
