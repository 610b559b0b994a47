"""Runs queued jobs, each as a subprocess in a process group of its own, one at a time for each device."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.errors import ConflictError, TuneryError
from tunery.core.ids import check_id
from tunery.core.job import FINAL_STATUSES, Job
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)
_TAIL = 2_000
"""Characters of a dead worker's output that go into the job's error [count]."""
CANCELLED_EVENT = "The job was cancelled"


class SupervisorSettings(Settings):
    """How jobs are run."""

    poll_s: float = Field(default=0.5, gt=0)
    """Pause between two looks at the queue and at the running worker [s]."""
    lease_s: float = Field(default=30.0, gt=0)
    """How long a job is held without a heartbeat before another machine may take it over [s]."""
    max_attempts: int = Field(default=3, ge=1)
    """Workers that may die on a job before it fails [count]."""
    grace_s: float = Field(default=10.0, gt=0)
    """Time that a worker has to stop by itself before it is killed [s]."""


class _Worker(NamedTuple):
    job: Job
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    """Where this attempt's output begins [bytes]."""


Command = Callable[[str, str, float], Sequence[str]]
"""Job id, worker name and lease [s] to the command line of its worker."""


def worker_command(job_id: str, worker: str, lease_s: float) -> list[str]:
    """Return the command that runs one job."""
    return [
        sys.executable,
        "-m",
        "tunery.pipeline.jobs.worker",
        job_id,
        worker,
        str(os.getpid()),
        f"{lease_s:g}",
    ]


class Supervisor:
    """Takes jobs from the queue and sees each to its end.

    A worker holds its job's lease by itself and dies with its supervisor, so that killing the server at any
    moment leaves a job that the next server takes over from its last checkpoint.
    """

    def __init__(
        self, workspace: Workspace, settings: SupervisorSettings, *, command: Command = worker_command
    ) -> None:
        self._workspace = workspace
        self._settings = settings
        self._command = command
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look at the queue, from a thread."""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the running worker at its next step, put its job back, and return once that is done."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=self._settings.grace_s + 10)

    def _run(self) -> None:
        recovered = False
        while not self._stopping.is_set():
            try:
                if not recovered:
                    recover(self._workspace)
                    recovered = True
                worker = self._next()
                if worker is not None:
                    self._see_through(worker)
                    continue
            except Exception:
                # A database that is away for a moment must not end the queue for good.
                _LOG.exception("the supervisor stumbled; it goes on")
            self._stopping.wait(self._settings.poll_s)

    def _next(self) -> _Worker | None:
        name = f"{socket.gethostname()}/{process_identity(os.getpid())}/{uuid.uuid4().hex[:8]}"
        job = self._workspace.jobs.claim(name, self._settings.lease_s)
        if job is None:
            return None
        if job.attempts > self._settings.max_attempts:
            self._fail(job, name, f"{job.attempts - 1} workers died on this job", "worker_died")
            return None
        folder = self._workspace.root / "logs"
        folder.mkdir(exist_ok=True)
        log = folder / f"{check_id(job.id, 'job')}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                list(self._command(job.id, name, self._settings.lease_s)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "TUNERY_HOME": str(self._workspace.root)},
                start_new_session=True,  # a Ctrl-C meant for the server does not reach it
            )
            return _Worker(job, name, process, log, out.tell())

    def _see_through(self, worker: _Worker) -> None:
        """Wait for a worker's end, passing on requests to stop."""
        stopped_at: float | None = None
        try:
            while worker.process.poll() is None:
                wants_stop = self._stopping.is_set() or self._cancel_requested(worker.job.id)
                if wants_stop and stopped_at is None:
                    stopped_at = time.monotonic()
                    _signal(worker.process, signal.SIGTERM)
                if stopped_at is not None and time.monotonic() - stopped_at > self._settings.grace_s:
                    _signal(worker.process, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(timeout=min(self._settings.poll_s, 0.2))
        finally:
            # Whatever the worker started goes with it.
            _signal(worker.process, signal.SIGKILL)
            worker.process.wait()
        self._settle(worker)

    def _cancel_requested(self, job_id: str) -> bool:
        try:
            return self._workspace.jobs.get(job_id).cancel_requested
        except TuneryError:
            _LOG.warning("job %s cannot be read now", job_id)
            return False

    def _settle(self, worker: _Worker) -> None:
        """Decide what becomes of a job whose worker has ended."""
        job = self._workspace.jobs.get(worker.job.id)
        if job.status in FINAL_STATUSES or job.worker != worker.name:
            return
        code = worker.process.returncode
        if job.cancel_requested:
            add_event_once(self._workspace, job.id, CANCELLED_EVENT)
            self._workspace.jobs.finish(job.id, worker.name, "cancelled")
        elif self._stopping.is_set():
            # Not the job's fault: this attempt does not count.
            put_back(self._workspace, job, attempts=job.attempts - 1)
        elif job.attempts >= self._settings.max_attempts:
            tail = _tail(worker.log, worker.log_start)
            message = f"the worker ended with {_how(code)}; the end of its log:\n{tail}"
            self._fail(job, worker.name, message, "worker_died")
        else:
            self._workspace.jobs.add_event(
                job.id,
                f"The worker ended with {_how(code)}; starting again from the last checkpoint "
                f"(attempt {job.attempts + 1} of {self._settings.max_attempts})",
                level="warn",
            )
            put_back(self._workspace, job, attempts=job.attempts)

    def _fail(self, job: Job, worker: str, message: str, code: str) -> None:
        error = {"code": code, "message": message, "param": None}
        self._workspace.jobs.add_event(job.id, f"The job failed: {message}", level="error")
        with contextlib.suppress(ConflictError):
            self._workspace.jobs.finish(job.id, worker, "failed", error=error)


def recover(workspace: Workspace) -> None:
    """Free the jobs of supervisors of this machine that are no more, instead of waiting for their leases.

    Their workers died with them; where the system cannot promise that, the lock that a worker holds while it
    works keeps a second one out. Jobs left between creation and the queue are put into it.
    """
    for job in workspace.jobs.every():
        if job.status == "validating_files":
            enqueue(workspace, job.id)
        elif job.status == "running" and job.worker is not None and _is_gone(job.worker):
            workspace.jobs.add_event(
                job.id, "The server was stopped; continuing from the last checkpoint", level="warn"
            )
            put_back(workspace, job, attempts=job.attempts - 1)


def enqueue(workspace: Workspace, job_id: str) -> Job:
    """Move a job whose files are checked into the queue."""
    add_event_once(workspace, job_id, "Files validated, moving job to queued state")
    return workspace.jobs.update(job_id, status="queued")


def put_back(workspace: Workspace, job: Job, *, attempts: int) -> None:
    """Return a job to the queue for the next worker."""
    workspace.jobs.update(job.id, status="queued", worker=None, lease_until=None, attempts=max(0, attempts))


def add_event_once(workspace: Workspace, job_id: str, message: str) -> None:
    """Add an event that a job tells once, however often its worker is started."""
    if all(event.message != message for event in workspace.jobs.every_event(job_id)):
        workspace.jobs.add_event(job_id, message)


def _is_gone(worker: str) -> bool:
    """Tell whether a worker's supervisor was a process of this machine and runs no longer."""
    host, _, rest = worker.partition("/")
    identity = rest.partition("/")[0]
    pid = identity.partition("-")[0]
    return host == socket.gethostname() and pid.isdecimal() and process_identity(int(pid)) != identity


def process_identity(pid: int) -> str:
    """Return ``pid-start``, which no later process shares; ``pid-gone`` when there is no such process.

    The number alone is not enough: in a container the server is process 1 every time. Where the system has
    no ``/proc`` the start is unknown, and a job waits for its lease instead.
    """
    try:
        # The name in brackets may hold spaces; the start time is the 20th field behind it.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
        return f"{pid}-gone" if fields[0] == "Z" else f"{pid}-{fields[19]}"
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return f"{pid}-gone"
    except OSError:
        pass
    return f"{pid}-0"


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _tail(log: Path, start: int) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(start)
            return stream.read().decode("utf-8", "replace")[-_TAIL:].strip() or "(nothing)"
    except OSError:
        return "(its log cannot be read)"
