"""The job queue: leases, heartbeats, takeover of a dead worker's job, and one job at a time for a device."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal

from tunery.core.clock import Clock
from tunery.core.errors import ConflictError
from tunery.core.job import FINAL_STATUSES, Job, JobCheckpoint, JobEvent, JobStatus
from tunery.core.progress import Level
from tunery.store.database import Database, Transaction
from tunery.store.job_log import JobLog
from tunery.store.records import Page, Records, TableLayout, utc_text

_LAYOUT = TableLayout(
    "jobs",
    Job,
    "job",
    ("id", "created_at", "status", "device", "worker", "lease_until"),
    hint="tunery jobs ls",
)

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


class Jobs:
    """The queue and the log of every job."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._records = Records(database, _LAYOUT)
        self._log = JobLog(database, clock)

    def add(self, job: Job) -> Job:
        """Store a job; one with this id that exists already is kept and returned."""
        return self._records.add(job)

    def get(self, id: str) -> Job:
        """Return a job.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self._records.get(id)

    def find(self, id: str) -> Job | None:
        """Return a job, None where there is none."""
        return self._records.find(id)

    def list(
        self, after: str | None = None, limit: int = 20, metadata: Mapping[str, str] | None = None
    ) -> Page[Job]:
        """Return jobs, newest first.

        Args:
            after: Id of the job that the page begins behind.
            limit: Jobs at most [count].
            metadata: Only jobs whose request has all these pairs in its ``metadata``; where there are no
                pairs, only those without any.

        Raises:
            NotFoundError: There is no job ``after``.
        """
        if metadata is None:
            return self._records.page(after=after, limit=limit)

        def is_meant(job: Job) -> bool:
            given = job.request.get("metadata") or {}
            return metadata.items() <= given.items() if metadata else not given

        found = filter(is_meant, self._records.every(after=after))
        kept = builtins.list(itertools.islice(found, limit + 1))
        return Page(kept[:limit], len(kept) > limit)

    def every(self) -> Iterator[Job]:
        """Yield all jobs, newest first."""
        return self._records.every()

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
        # One lock for the whole queue: two claims that saw different jobs of one device would start both.
        with self._database.transaction(lock="jobs") as transaction:
            now = self._clock.now()
            while True:
                free = self._records.select(transaction, _CLAIMABLE, {"now": utc_text(now)})
                if not free:
                    return None
                job = free[0]
                if job.cancel_requested:
                    self._end(transaction, job, "cancelled", {})
                    continue
                return self._records.write(
                    transaction,
                    job.with_(
                        status="running",
                        worker=worker,
                        lease_until=now + timedelta(seconds=lease_seconds),
                        started_at=job.started_at or now,
                        attempts=job.attempts + 1,
                    ),
                )

    def heartbeat(self, id: str, worker: str, lease_seconds: float) -> bool:
        """Hold a job for longer; False when it is no longer this worker's, who must then stop.

        Raises:
            NotFoundError: There is no such job.
        """
        with self._database.transaction(lock="jobs") as transaction:
            job = self._records.read(transaction, id)
            if job.status != "running" or job.worker != worker:
                return False
            until = self._clock.now() + timedelta(seconds=lease_seconds)
            self._records.write(transaction, job.with_(lease_until=until))
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
        with self._database.transaction(lock="jobs") as transaction:
            job = self._records.read(transaction, id)
            if job.status != "running" or job.worker != worker:
                holder = f"held by {job.worker}" if job.status == "running" else job.status
                raise ConflictError(f"job {id} is {holder}; {worker} cannot end it as {status}")
            return self._end(transaction, job, status, changes)

    def update(self, id: str, **changes: Any) -> Job:
        """Replace fields of a job and return its new state.

        Raises:
            NotFoundError: There is no such job.
        """
        with self._database.transaction(lock="jobs") as transaction:
            job = self._records.read(transaction, id)
            return self._records.write(transaction, job.with_(**changes))

    def request_cancel(self, id: str) -> Job:
        """Ask a job to stop: one that waits ends now, one that runs when its worker sees it.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: The job has ended otherwise.
        """
        with self._database.transaction(lock="jobs") as transaction:
            job = self._records.read(transaction, id)
            if job.status == "cancelled":
                return job
            if job.status in FINAL_STATUSES:
                raise ConflictError(f"job {id} has {job.status} and cannot be cancelled")
            if job.status == "running":
                return self._records.write(transaction, job.with_(cancel_requested=True))
            return self._end(transaction, job, "cancelled", {"cancel_requested": True})

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
        return self._log.add_event(job_id, message, level=level, type=type, data=data or {})

    def events(self, job_id: str, after: str | None = None, limit: int = 20) -> Page[JobEvent]:
        """Return lines of a job's log, newest first.

        Raises:
            NotFoundError: There is no such job, or no event ``after``.
        """
        self.get(job_id)
        return self._log.events(job_id, after, limit)

    def every_event(self, job_id: str) -> Iterator[JobEvent]:
        """Yield all lines of a job's log, newest first."""
        return self._log.every_event(job_id)

    def add_checkpoint(self, job_id: str, step_number: int, metrics: Mapping[str, float]) -> JobCheckpoint:
        """Note a point that a job can resume from; a step that was noted already is kept as it is.

        Raises:
            NotFoundError: There is no such job.
        """
        self.get(job_id)
        return self._log.add_checkpoint(job_id, step_number, metrics)

    def checkpoints(self, job_id: str, after: str | None = None, limit: int = 10) -> Page[JobCheckpoint]:
        """Return the points a job can resume from, newest first.

        Raises:
            NotFoundError: There is no such job, or no checkpoint ``after``.
        """
        self.get(job_id)
        return self._log.checkpoints(job_id, after, limit)

    def _end(self, transaction: Transaction, job: Job, status: JobStatus, changes: Mapping[str, Any]) -> Job:
        ended = {"status": status, "finished_at": self._clock.now(), "worker": None, "lease_until": None}
        return self._records.write(transaction, job.with_(**{**ended, **changes}))
