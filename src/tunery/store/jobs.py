"""The job queue: leases, heartbeats, takeover of a dead worker's job, and one job at a time for a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from tunery.core.clock import Clock
from tunery.core.errors import ConflictError, LeaseLostError
from tunery.core.ids import new_id
from tunery.core.job import FINAL_STATUSES, Job, JobCheckpoint, JobEvent, JobStatus
from tunery.core.progress import Level
from tunery.core.webhook import EventType
from tunery.store.database import Database, Transaction
from tunery.store.records import Page, Records, TableLayout, utc_text
from tunery.store.webhooks import Outbox

CANCELLED = "The job was cancelled"
"""Last line of the log of a job that was asked to stop."""
PAUSED = "The job was paused; it goes on where it was when it is resumed"
"""What a job's log says when it has stopped to wait."""
QUEUED = "Files validated, moving job to queued state"
"""What a job's log says when it comes into the queue; OpenAI's words."""
_ENDS: Mapping[JobStatus, EventType] = {
    "succeeded": "fine_tuning.job.succeeded",
    "failed": "fine_tuning.job.failed",
    "cancelled": "fine_tuning.job.cancelled",
}
_LAYOUT = TableLayout(
    "jobs",
    Job,
    "job",
    ("status", "device", "worker", "lease_until", "project"),
    hint="tunery jobs ls",
    private=True,
    owned="project = :project",
)
_OF_A_JOB = "job_id IN (SELECT id FROM jobs WHERE project = :project)"
_EVENTS = TableLayout("job_events", JobEvent, "job event", ("job_id",), private=True, owned=_OF_A_JOB)
_CHECKPOINTS = TableLayout(
    "job_checkpoints", JobCheckpoint, "job checkpoint", ("job_id",), private=True, owned=_OF_A_JOB
)

_CLAIMABLE = """
WHERE (status = 'queued' OR (status = 'running' AND lease_until < :now))
ORDER BY CASE status WHEN 'running' THEN 0 ELSE 1 END, seq
LIMIT 100
"""
"""A dead worker's job before the queue, because it was started first; then the oldest."""
_BUSY = "WHERE status = 'running' AND device = :device AND lease_until >= :now"
_FURTHER = """
SELECT 1 AS there FROM job_checkpoints WHERE job_id = :id AND created_at > :claimed_at LIMIT 1
"""
_HELD = "SELECT status, worker FROM jobs WHERE id = :id"
_COUNTS = "SELECT project, status, COUNT(*) AS jobs FROM jobs GROUP BY project, status"


class Line(NamedTuple):
    """What a job's log is to say."""

    message: str
    level: Level = "info"


class Jobs(Records[Job]):
    """The queue and the log of every job.

    Every change of a status asks first what the status is and who holds the job, within the transaction that
    changes it: whoever comes late changes nothing.
    """

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._clock = clock
        self._events = Records(database, _EVENTS, project)
        self._checkpoints = Records(database, _CHECKPOINTS, project)
        self._outbox = Outbox(database, clock)

    def lock(self, id: str) -> str:
        """Return the queue's one lock: two claims that saw different jobs of one device would start both."""
        return "jobs"

    def create(
        self, job: Job, lines: Sequence[Line] = (), *, is_same: Callable[[Job], bool] = lambda job: False
    ) -> Job:
        """Put a job into the queue together with the first lines of its log: all of it or nothing.

        Args:
            job: What to queue.
            lines: How its log begins.
            is_same: Recognises the job that an earlier try of the same request made, which is then kept and
                returned; asked for the newest hundred jobs.
        """
        now = self._clock.now()
        events = [self._event(job.id, line, now) for line in lines]

        def put(transaction: Transaction) -> Job:
            if self.there(transaction, job.id):
                return self.read(transaction, job.id)
            for earlier in self.select(transaction, "ORDER BY seq DESC LIMIT 100", {}):
                if is_same(earlier):
                    return earlier
            queued = self.insert(transaction, job.with_(status="queued"))
            for event in events:
                self._events.insert(transaction, event)
            return queued

        return self.database.atomically(put, lock="jobs")

    def claim(self, worker: str, lease_seconds: float, device: str = "local") -> Job | None:
        """Take the next job and hold it for a while; no two callers ever get the same one.

        A job is free when it is queued, or when its worker's lease ran out; and only while no other job of
        the device is running. A free job that was asked to stop is cancelled instead of started again. The
        attempt counts from here on, so that a job which takes its server with it is not tried for ever.

        Args:
            worker: Who takes it; a name that nobody had before.
            lease_seconds: How long it is held without a heartbeat [s].
            device: Where the worker computes: a machine and one of its devices.

        Returns:
            The job, ``running``, its ``attempts`` counted up; None when nothing can be started now.
        """

        def take(transaction: Transaction) -> Job | None:
            now = self._clock.now()
            at = {"now": utc_text(now)}
            # Taken already, and the answer lost on its way here.
            for mine in self.select(transaction, "WHERE worker = :worker", {"worker": worker}):
                return mine
            if self.select(transaction, _BUSY, {**at, "device": device}):
                return None
            for job in self.select(transaction, _CLAIMABLE, at):
                if job.cancel_requested:
                    self._end(transaction, job, "cancelled", [Line(CANCELLED)])
                    continue
                if job.pause_requested:
                    self._pause(transaction, job)
                    continue
                return self.write(
                    transaction,
                    job.with_(
                        status="running",
                        worker=worker,
                        lease_until=now + timedelta(seconds=lease_seconds),
                        claimed_at=now,
                        started_at=job.started_at or now,
                        attempts=self._wasted(transaction, job) + 1,
                        device=device,
                    ),
                )
            return None

        return self.database.atomically(take, lock="jobs")

    def heartbeat(self, id: str, worker: str, lease_seconds: float) -> bool:
        """Hold a job for longer; False when it is no longer this worker's, who must then stop.

        Raises:
            NotFoundError: There is no such job.
        """

        def hold(transaction: Transaction) -> bool:
            job = self.read(transaction, id)
            if job.status != "running" or job.worker != worker:
                return False
            until = self._clock.now() + timedelta(seconds=lease_seconds)
            self.write(transaction, job.with_(lease_until=until))
            return True

        return self.database.atomically(hold, lock="jobs")

    def stand_fence(self, id: str, worker: str) -> None:
        """Let this workspace write, from now on, only while ``worker`` holds the job.

        Transactions that come later raise :class:`~tunery.core.errors.LeaseLostError`. The job's row is held
        until a transaction ends, so that nobody takes the job over in its middle.
        """

        def check(transaction: Transaction) -> None:
            found = transaction.hold(_HELD, {"id": id})
            if not found or (found[0]["status"], found[0]["worker"]) != ("running", worker):
                raise LeaseLostError(f"job {id} is no longer held by {worker}")

        self.database.fence = check

    def finish(
        self, id: str, worker: str, status: JobStatus, lines: Sequence[Line] = (), **changes: Any
    ) -> Job:
        """End a job, note its results and the last lines of its log, all of it or nothing.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: The job has ended, or another worker took it over.
            ValueError: The status is none that a job ends with.
        """
        if status not in FINAL_STATUSES:
            raise ValueError(f"a job does not end {status}")

        def end(transaction: Transaction) -> Job:
            job = self.read(transaction, id)
            if job.status != "running" or job.worker != worker:
                holder = f"held by {job.worker}" if job.status == "running" else job.status
                raise ConflictError(f"job {id} is {holder}; {worker} cannot end it as {status}")
            return self._end(transaction, job.with_(**changes), status, lines)

        return self.database.atomically(end, lock="jobs")

    def put_back(self, id: str, worker: str, line: Line | None = None, *, counts: bool = True) -> bool:
        """Return a job that ``worker`` holds to the queue; False, and nothing changed, where it holds it not.

        One that is to be paused waits outside of it.

        Args:
            id: Which job.
            worker: Who held it.
            line: What its log is to say.
            counts: Whether the attempt does; one that reached a further checkpoint never does.
        """

        def free(transaction: Transaction) -> bool:
            job = self.read(transaction, id)
            if job.status != "running" or job.worker != worker:
                return False
            if job.pause_requested:
                self._pause(transaction, job)
                return True
            attempts = self._wasted(transaction, job) if counts else max(0, job.attempts - 1)
            freed = job.with_(status="queued", worker=None, lease_until=None, attempts=attempts)
            self.write(transaction, freed)
            if line is not None:
                self._events.insert(transaction, self._event(id, line, self._clock.now()))
            return True

        return self.database.atomically(free, lock="jobs")

    def enqueue(self, id: str) -> bool:
        """Queue a job that an earlier version left before the queue; False where it is elsewhere."""

        def queue(transaction: Transaction) -> bool:
            job = self.read(transaction, id)
            if job.status != "validating_files":
                return False
            self.write(transaction, job.with_(status="queued"))
            line = Line(QUEUED)
            if line.message not in self._messages(transaction, id):
                self._events.insert(transaction, self._event(id, line, self._clock.now()))
            return True

        return self.database.atomically(queue, lock="jobs")

    def resume(self, id: str, *, ended: bool = True) -> Job:
        """Put a paused, failed or cancelled job back into the queue; one that has yet to stop goes on.

        Args:
            ended: Whether one that has failed or was cancelled may be taken up again.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: The job is none of these.
        """
        resumable = ("paused", "failed", "cancelled") if ended else ("paused",)

        def again(transaction: Transaction) -> Job:
            job = self.read(transaction, id)
            if job.status == "running" and job.pause_requested:
                return self.write(transaction, job.with_(pause_requested=False))
            if job.status not in resumable:
                raise ConflictError(
                    f"job {job.id} is {job.status}; only a {' or '.join(resumable)} one can be resumed",
                    hint=f"tunery jobs status {job.id}",
                )
            line = Line(f"Resumed after it was {job.status}")
            self._events.insert(transaction, self._event(id, line, self._clock.now()))
            return self.write(
                transaction,
                job.with_(
                    status="queued",
                    worker=None,
                    lease_until=None,
                    attempts=0,
                    cancel_requested=False,
                    pause_requested=False,
                    error=None,
                    finished_at=None,
                ),
            )

        return self.database.atomically(again, lock="jobs")

    def counts(self) -> dict[tuple[str, ...], int]:
        """Return how many jobs of each project have each status, for the operator [count]."""
        return {
            (str(row["project"]), str(row["status"])): int(row["jobs"]) for row in self.database.rows(_COUNTS)
        }

    def request_cancel(self, id: str) -> Job:
        """Ask a job to stop: one that nobody holds ends now, one that runs when its worker sees it.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: The job has ended otherwise.
        """

        def cancel(transaction: Transaction) -> Job:
            job = self.read(transaction, id)
            if job.status == "cancelled":
                return job
            if job.status in FINAL_STATUSES:
                raise ConflictError(f"job {id} has {job.status} and cannot be cancelled")
            asked = job.with_(cancel_requested=True)
            if job.status == "running" and self._is_held(job):
                return self.write(transaction, asked)
            return self._end(transaction, asked, "cancelled", [Line(CANCELLED)])

        return self.database.atomically(cancel, lock="jobs")

    def request_pause(self, id: str) -> Job:
        """Ask a job to wait: one that nobody holds does so now, one that runs from its next step on.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: The job has ended, or was asked to.
        """

        def pause(transaction: Transaction) -> Job:
            job = self.read(transaction, id)
            if job.status == "paused":
                return job
            if job.status in FINAL_STATUSES or job.cancel_requested:
                what = f"is {job.status}" if job.status in FINAL_STATUSES else "is being cancelled"
                raise ConflictError(f"job {id} {what} and cannot be paused")
            if job.status == "running" and self._is_held(job):
                return self.write(transaction, job.with_(pause_requested=True))
            return self._pause(transaction, job)

        return self.database.atomically(pause, lock="jobs")

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
        event = self._event(job_id, Line(message, level), self._clock.now())
        return self._events.add(event.with_(type=type, data=data or {}))

    def add_event_once(self, job_id: str, message: str) -> None:
        """Add a line that a job tells once, however often its worker is started.

        Raises:
            NotFoundError: There is no such job.
        """
        event = self._event(job_id, Line(message), self._clock.now())

        def tell(transaction: Transaction) -> None:
            self.read(transaction, job_id)
            if message not in self._messages(transaction, job_id):
                self._events.insert(transaction, event)

        self.database.atomically(tell, lock=f"job_events/{job_id}")

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
        now = self._clock.now()
        checkpoint = JobCheckpoint(
            id=new_id("ftckpt", now),
            job_id=job_id,
            created_at=now,
            step_number=step_number,
            metrics=metrics,
        )

        def note(transaction: Transaction) -> JobCheckpoint:
            for noted in self._checkpoints.select(transaction, "WHERE job_id = :job_id", {"job_id": job_id}):
                if noted.step_number == step_number:
                    return noted
            return self._checkpoints.insert(transaction, checkpoint)

        return self.database.atomically(note, lock=f"job_checkpoints/{job_id}")

    def checkpoints(self, job_id: str, after: str | None = None, limit: int = 10) -> Page[JobCheckpoint]:
        """Return the points a job can resume from, newest first.

        Raises:
            NotFoundError: There is no such job, or no checkpoint ``after``.
        """
        self.get(job_id)
        return self._checkpoints.page(where={"job_id": job_id}, after=after, limit=limit)

    def _end(self, transaction: Transaction, job: Job, status: JobStatus, lines: Sequence[Line]) -> Job:
        now = self._clock.now()
        for line in lines:
            self._events.insert(transaction, self._event(job.id, line, now))
        self._outbox.put(transaction, _ENDS[status], job.project, id=job.id)
        ended = job.with_(status=status, finished_at=now, worker=None, lease_until=None)
        return self.write(transaction, ended)

    def _pause(self, transaction: Transaction, job: Job) -> Job:
        """Let a job wait; the attempt that it was in does not count."""
        self._events.insert(transaction, self._event(job.id, Line(PAUSED), self._clock.now()))
        attempts = max(0, job.attempts - 1)
        freed = {"worker": None, "lease_until": None, "pause_requested": False, "attempts": attempts}
        return self.write(transaction, job.with_(status="paused", **freed))

    def _is_held(self, job: Job) -> bool:
        return job.lease_until is not None and job.lease_until >= self._clock.now()

    def _wasted(self, transaction: Transaction, job: Job) -> int:
        """Return a job's attempts, the last one left out where it reached a further checkpoint.

        Who came further did not die of what the job does at its beginning; how often that can happen is
        bounded by the number of checkpoints.
        """
        if job.status != "running" or job.claimed_at is None:
            return job.attempts
        since = {"id": job.id, "claimed_at": utc_text(job.claimed_at)}
        return max(0, job.attempts - 1) if transaction.rows(_FURTHER, since) else job.attempts

    def _messages(self, transaction: Transaction, id: str) -> set[str]:
        of_job = {"id": id}
        return {e.message for e in self._events.select(transaction, "WHERE job_id = :id", of_job)}

    def _event(self, job_id: str, line: Line, now: datetime) -> JobEvent:
        return JobEvent(
            id=new_id("ftevent", now),
            job_id=job_id,
            created_at=now,
            level=line.level,
            message=line.message,
        )
