"""Runs queued jobs, each as a subprocess in a process group of its own, one at a time for each device."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.errors import ConflictError, NotFoundError, TuneryError
from tunery.core.ids import check_id
from tunery.core.job import FINAL_STATUSES, Job
from tunery.pipeline.jobs.processes import (
    how_it_ended,
    is_gone,
    kills_for_memory,
    last_words,
    machine_identity,
    this_process,
)
from tunery.pipeline.jobs.worker import EXIT_INTERRUPTED, EXIT_LEASE_LOST
from tunery.store.jobs import CANCELLED, Line
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)
_ILL_AFTER_S = 30.0
"""How long nothing may succeed before :meth:`Supervisor.problem` says so [s]."""


class SupervisorSettings(Settings):
    """How jobs are run."""

    poll_s: float = Field(default=0.5, gt=0)
    """Pause between two looks at the queue and at the running worker [s]."""
    lease_s: float = Field(default=30.0, gt=0)
    """How long a job is held without a heartbeat before another machine may take it over [s]. Machines that
    share a database need clocks that agree to within a third of it."""
    max_attempts: int = Field(default=3, ge=1)
    """Workers that may die on a job, none coming further than the one before, until it fails [count]. One
    whose server died with it counts too."""
    grace_s: float = Field(default=10.0, gt=0)
    """Time that a worker has to stop by itself before it is killed [s]."""
    device: str = Field(default="local", min_length=1, max_length=64)
    """Name of what this server's jobs compute on. Jobs of one device of one machine run one after another;
    give two servers of a machine two names and they run two at once."""


class _Worker(NamedTuple):
    job: Job
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    """Where this attempt's output begins [bytes]."""
    memory_kills: int
    """The kernel's count when it began."""


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

    Args:
        workspace: Whose jobs.
        settings: How they are run.
        command: Starts a worker.
        environment: Returns variables that workers need beside this process's; may take as long as an engine
            takes to start, and jobs wait while it raises.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: SupervisorSettings,
        *,
        command: Command = worker_command,
        environment: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._workspace = workspace
        self._settings = settings
        self._command = command
        self._environment = environment
        self._device = f"{machine_identity()}/{settings.device}"
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._well_at = time.monotonic()
        self._stumbled: str | None = None

    def start(self) -> None:
        """Begin to look at the queue, from a thread."""
        self._well_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the running worker at its next step, put its job back, and return once that is done."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=self._settings.grace_s + 10)

    def problem(self) -> str | None:
        """Return why queued jobs are not run now, None where they are."""
        if self._thread is not None and not self._thread.is_alive() and not self._stopping.is_set():
            return "the thread that runs jobs has ended"
        since = time.monotonic() - self._well_at
        if self._stumbled is not None and since > _ILL_AFTER_S:
            return f"jobs have not been run for {since:.0f} s: {self._stumbled}"
        return None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guarded(self._turn)
            self._stopping.wait(self._settings.poll_s)

    def _turn(self) -> None:
        """Look once whether there is something to do, and do it to its end."""
        recover(self._workspace)
        while not self._stopping.is_set() and (worker := self._next()) is not None:
            self._see_through(worker)

    def _guarded(self, call: Callable[[], object]) -> bool:
        """Call, and say whether that went well; nothing that goes wrong ends the queue for good."""
        try:
            call()
        except TuneryError as error:
            if self._stumbled != error.message:
                _LOG.warning("jobs wait: %s", error.message)
            self._stumbled = error.message
            return False
        except BaseException as error:
            _LOG.exception("the supervisor stumbled; it goes on")
            self._stumbled = f"{type(error).__name__}: {error}"
            return False
        self._stumbled, self._well_at = None, time.monotonic()
        return True

    def _next(self) -> _Worker | None:
        name = f"{this_process()}/{uuid.uuid4().hex[:12]}"
        environment: Mapping[str, str] = {}
        if self._environment is not None:
            # Before a job is taken: its lease would not wait for an engine to start. One that runs may be a
            # dead machine's, which is to be taken over.
            if not any(status in ("queued", "running") for _, status in self._workspace.jobs.counts()):
                return None
            environment = self._environment()
        job = self._workspace.jobs.claim(name, self._settings.lease_s, self._device)
        if job is None:
            return None
        if job.attempts > self._settings.max_attempts:
            self._fail(job, name, f"{job.attempts - 1} workers in a row ended without coming further")
            return None
        try:
            return self._started(job, name, environment)
        except OSError as error:  # no memory, no process number, or no place for the log
            self._again_or_never(job, name, f"could not be started: {error}", "")
            return None

    def _started(self, job: Job, name: str, environment: Mapping[str, str]) -> _Worker:
        folder = self._workspace.root / "logs"
        folder.mkdir(exist_ok=True)
        log = folder / f"{check_id(job.id, 'job')}.log"
        memory_kills = kills_for_memory()
        with log.open("ab") as out:
            start = out.tell()  # now: the worker moves the same place on as it writes
            process = subprocess.Popen(
                list(self._command(job.id, name, self._settings.lease_s)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **environment, "TUNERY_HOME": str(self._workspace.root)},
                start_new_session=True,  # a Ctrl-C meant for the server does not reach it
            )
            return _Worker(job, name, process, log, start, memory_kills)

    def _see_through(self, worker: _Worker) -> None:
        """Wait for a worker's end, passing on requests to stop."""
        stopped_at: float | None = None
        try:
            while worker.process.poll() is None:
                wants_stop = self._stopping.is_set() or self._stop_requested(worker.job.id)
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
        # The job's outcome waits for a database that is away; a server that ends leaves it to the next one.
        while not self._guarded(lambda: self._settle(worker)) and not self._stopping.is_set():
            self._stopping.wait(self._settings.poll_s)

    def _stop_requested(self, job_id: str) -> bool:
        try:
            return self._workspace.jobs.get(job_id).stop_requested
        except Exception:
            # Asked again in a moment; the worker goes on meanwhile.
            return False

    def _settle(self, worker: _Worker) -> None:
        """Decide what becomes of a job whose worker has ended."""
        jobs = self._workspace.jobs
        try:
            job = jobs.get(worker.job.id)
        except NotFoundError:
            return
        if job.status in FINAL_STATUSES or job.worker != worker.name:
            return
        code = worker.process.returncode
        if job.cancel_requested:
            with contextlib.suppress(ConflictError):
                jobs.finish(job.id, worker.name, "cancelled", [Line(CANCELLED)])
        elif job.pause_requested or self._stopping.is_set() or code in (EXIT_INTERRUPTED, EXIT_LEASE_LOST):
            # It was told to stop, or says so itself: not the job's fault, and this attempt does not count.
            jobs.put_back(job.id, worker.name, counts=False)
        else:
            tail = last_words(worker.log, worker.log_start)
            ended = how_it_ended(code, memory_ran_out=kills_for_memory() > worker.memory_kills)
            self._again_or_never(job, worker.name, f"ended with {ended}", tail)

    def _again_or_never(self, job: Job, worker: str, ended: str, tail: str) -> None:
        """Return a job to the queue, or fail it where this was its last attempt."""
        if job.attempts >= self._settings.max_attempts:
            told = f"; the end of its log:\n{tail}" if tail else f"; {self._last_event(job.id)}"
            self._fail(job, worker, f"the worker {ended}{told}")
            return
        line = (
            f"The worker {ended}; starting again from the last checkpoint "
            f"(attempt {job.attempts + 1} of {self._settings.max_attempts})"
        )
        self._workspace.jobs.put_back(job.id, worker, Line(line, "warn"))

    def _last_event(self, job_id: str) -> str:
        newest = self._workspace.jobs.events(job_id, limit=1).items
        return f"it wrote nothing; the last event was: {newest[0].message}" if newest else "it wrote nothing"

    def _fail(self, job: Job, worker: str, message: str) -> None:
        error = {"code": "worker_died", "message": message, "param": None}
        line = Line(f"The job failed: {message}", "error")
        with contextlib.suppress(ConflictError):
            self._workspace.jobs.finish(job.id, worker, "failed", [line], error=error)


def recover(workspace: Workspace) -> None:
    """Free the jobs of supervisors of this machine that are no more, instead of waiting for their leases.

    Their workers died with them; where the system cannot promise that, the lock that a worker holds while it
    works keeps a second one out. Jobs that an earlier version left between creation and the queue are put
    into it. Every change is made only where the job is still as it was seen, so that any number of servers
    may do this at any time.
    """
    jobs = workspace.jobs
    for job in jobs.every(status="validating_files"):
        jobs.enqueue(job.id)
    for job in jobs.every(status="running"):
        if job.worker is not None and is_gone(job.worker):
            line = Line("The server was stopped; continuing from the last checkpoint", "warn")
            jobs.put_back(job.id, job.worker, line)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
