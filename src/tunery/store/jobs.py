"""The job queue: leases, heartbeats, takeover of a dead worker's job, and one job at a time for a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

from tunery.core.clock import Clock
from tunery.core.errors import ConflictError
from tunery.core.ids import new_id
from tunery.core.job import FINAL_STATUSES, Job, JobCheckpoint, JobEvent, JobStatus
from tunery.core.progress import Level
from tunery.store.database import Database
from tunery.store.records import Page, Records, TableLayout, utc_text

_LAYOUT = TableLayout(
    "jobs",
    Job,
    "job",
    ("status", "device", "worker", "lease_until"),
    hint="tunery jobs ls",
    private=True,
)
_EVENTS = TableLayout("job_events", JobEvent, "job event", ("job_id",), private=True)
_CHECKPOINTS = TableLayout("job_checkpoints", JobCheckpoint, "job checkpoint", ("job_id",), private=True)

_CLAIMABLE = """
WHERE (status = 'queued' OR (status = 'running' AND lease_until < :now))
  AND NOT EXISTS (
    SELECT 1 FROM jobs AS other
    WHERE other.device = jobs.device AND other.id <> jobs.id
      AND other.status = 'running' AND other.lease_until >= :now)
ORDER BY CASE status WHEN 'running' THEN 0 ELSE 1 END, seq
LIMIT 1
"""
"""A dead worker's job before the queue, because it was started first; then the oldest."""


class Jobs(Records[Job]):
    """The queue and the log of every job."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, _LAYOUT)
        self._clock = clock
        self._events = Records(database, _EVENTS)
        self._checkpoints = Records(database, _CHECKPOINTS)

    def lock(self, id: str) -> str:
        """Return the queue's one lock: two claims that saw different jobs of one device would start both."""
        return "jobs"

    def claim(self, worker: str, lease_seconds: float) -> Job | None:
        """Take the next job and hold it for a while; no two callers ever get the same one.

        A job is free when it is queued, or when its worker's lease ran out; and only while no other job of
        its device is running. A free job that was asked to stop is cancelled instead of started again.

        Args:
            worker: Who takes it, unique among all that are alive.
            lease_seconds: How long it is held without a heartbeat [s].

        Returns:
            The job, ``running``, its ``attempts`` counted up; None when nothing can be started now.
        """
        with self.database.transaction(lock="jobs") as transaction:
            now = self._clock.now()
            while free := self.select(transaction, _CLAIMABLE, {"now": utc_text(now)}):
                job = free[0]
                if job.cancel_requested:
                    self.write(transaction, self._ended(job, "cancelled"))
                    continue
                return self.write(
                    transaction,
                    job.with_(
                        status="running",
                        worker=worker,
                        lease_until=now + timedelta(seconds=lease_seconds),
                        started_at=job.started_at or now,
                        attempts=job.attempts + 1,
                    ),
                )
        return None

    def heartbeat(self, id: str, worker: str, lease_seconds: float) -> bool:
        """Hold a job for longer; False when it is no longer this worker's, who must then stop.

        Raises:
            NotFoundError: There is no such job.
        """
        with self.database.transaction(lock="jobs") as transaction:
            job = self.read(transaction, id)
            if job.status != "running" or job.worker != worker:
                return False
            until = self._clock.now() + timedelta(seconds=lease_seconds)
            self.write(transaction, job.with_(lease_until=until))
            return True

    def finish(self, id: str, worker: str, status: JobStatus, **changes: Any) -> Job:
        """End a job and note its results.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: The job has ended, or another worker took it over.
            ValueError: The status is none that a job ends with.
        """
        if status not in FINAL_STATUSES:
            raise ValueError(f"a job does not end {status}")

        def finished(job: Job) -> Job:
            if job.status != "running" or job.worker != worker:
                holder = f"held by {job.worker}" if job.status == "running" else job.status
                raise ConflictError(f"job {id} is {holder}; {worker} cannot end it as {status}")
            return self._ended(job, status).with_(**changes)

        return self.change(id, finished)

    def counts(self) -> dict[str, int]:
        """Return how many jobs have each status."""
        rows = self.database.rows("SELECT status, COUNT(*) AS jobs FROM jobs GROUP BY status")
        return {str(row["status"]): int(row["jobs"]) for row in rows}

    def request_cancel(self, id: str) -> Job:
        """Ask a job to stop: one that waits ends now, one that runs when its worker sees it.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: The job has ended otherwise.
        """

        def cancelled(job: Job) -> Job:
            if job.status == "cancelled":
                return job
            if job.status in FINAL_STATUSES:
                raise ConflictError(f"job {id} has {job.status} and cannot be cancelled")
            stopped = job if job.status == "running" else self._ended(job, "cancelled")
            return stopped.with_(cancel_requested=True)

        return self.change(id, cancelled)

    def add_event(
        self,
        job_id: str,
        message: str,
        *,
        level: Level = "info",
        type: Literal["message", "metrics"] = "message",
        data: Mapping[str, Any] | None = None,
    ) -> JobEvent:
        """Add a line to a job's log.

        Raises:
            NotFoundError: There is no such job.
        """
        self.get(job_id)
        now = self._clock.now()
        event = JobEvent(
            id=new_id("ftevent", now),
            job_id=job_id,
            created_at=now,
            level=level,
            message=message,
            type=type,
            data=data or {},
        )
        return self._events.add(event)

    def events(self, job_id: str, after: str | None = None, limit: int = 20) -> Page[JobEvent]:
        """Return lines of a job's log, newest first.

        Raises:
            NotFoundError: There is no such job, or no event ``after``.
        """
        self.get(job_id)
        return self._events.page(where={"job_id": job_id}, after=after, limit=limit)

    def every_event(self, job_id: str) -> Iterator[JobEvent]:
        """Yield all lines of a job's log, newest first."""
        return self._events.every(job_id=job_id)

    def add_checkpoint(self, job_id: str, step_number: int, metrics: Mapping[str, float]) -> JobCheckpoint:
        """Note a point that a job can resume from.

        A step that was noted already is kept as it is: a job that was taken over passes the same steps again.

        Raises:
            NotFoundError: There is no such job.
        """
        self.get(job_id)
        with self.database.transaction(lock=f"job_checkpoints/{job_id}") as transaction:
            for noted in self._checkpoints.select(transaction, "WHERE job_id = :job_id", {"job_id": job_id}):
                if noted.step_number == step_number:
                    return noted
            now = self._clock.now()
            checkpoint = JobCheckpoint(
                id=new_id("ftckpt", now),
                job_id=job_id,
                created_at=now,
                step_number=step_number,
                metrics=metrics,
            )
            return self._checkpoints.insert(transaction, checkpoint)

    def checkpoints(self, job_id: str, after: str | None = None, limit: int = 10) -> Page[JobCheckpoint]:
        """Return the points a job can resume from, newest first.

        Raises:
            NotFoundError: There is no such job, or no checkpoint ``after``.
        """
        self.get(job_id)
        return self._checkpoints.page(where={"job_id": job_id}, after=after, limit=limit)

    def _ended(self, job: Job, status: JobStatus) -> Job:
        return job.with_(status=status, finished_at=self._clock.now(), worker=None, lease_until=None)
