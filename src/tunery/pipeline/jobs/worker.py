"""The subprocess of one job: ``python -m tunery.pipeline.jobs.worker JOB WORKER SUPERVISOR_PID LEASE_S``."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunery.pipeline.jobs.processes import kill_if_ours, this_process

if TYPE_CHECKING:
    from tunery.store.workspace import Workspace

PR_SET_PDEATHSIG = 1
"""From ``<linux/prctl.h>``."""
EXIT_INTERRUPTED = 75
"""The job is not over: sysexits' EX_TEMPFAIL."""
EXIT_LEASE_LOST = 76
"""Another worker has the job."""
PATIENCE_S = 5.0
"""Time after which a wait for an earlier worker is told [s]."""
FAREWELL_S = 2.0
"""Time that a worker has to leave by itself once its job has ended [s]."""


def main(argv: Sequence[str]) -> int:
    """Run one job whose lease this worker holds."""
    job_id, worker, supervisor_pid, lease_s = argv
    die_with(int(supervisor_pid))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Slow imports come after the parent is watched, the slowest ones after the lease is held.
    from tunery.core.errors import LeaseLostError, UnavailableError
    from tunery.core.ids import check_id
    from tunery.store.database import Patience
    from tunery.store.workspace import Workspace

    try:
        # Work waits for a database that is away; the lease must be able to say so.
        with (
            contextlib.closing(Workspace.open(patience=Patience(math.inf, stop.is_set))) as workspace,
            contextlib.closing(Workspace.open(patience=Patience(math.inf, stop.is_set))) as beside,
            _Lease(beside, job_id, worker, int(supervisor_pid), float(lease_s)),
        ):
            from tunery.pipeline.jobs.run import run_job

            beside.database.patience = Patience()
            workspace.jobs.stand_fence(job_id, worker)
            project = workspace.jobs.get(job_id).project
            lock = workspace.root / "logs" / f"{check_id(job_id, 'job')}.lock"

            def give_up() -> bool:
                return stop.is_set() or _is_to_stop(beside, job_id)

            with alone(lock, give_up, lambda line: workspace.jobs.add_event_once(job_id, line)) as held:
                ended = held and run_job(workspace.of(project), job_id, worker, stop.is_set)
            return 0 if ended else EXIT_INTERRUPTED
    except LeaseLostError:
        return EXIT_LEASE_LOST
    except UnavailableError:  # told to stop while the database was away
        return EXIT_INTERRUPTED


def _is_to_stop(workspace: Workspace, job_id: str) -> bool:
    from tunery.core.errors import UnavailableError

    try:
        return workspace.jobs.get(job_id).stop_requested
    except UnavailableError:
        return False


def die_with(supervisor_pid: int) -> None:
    """Make this process end when its supervisor does, however that happens.

    Else a job would go on under a server that was killed while the next server starts it a second time.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != supervisor_pid:  # it ended before the call above
        os._exit(EXIT_LEASE_LOST)


@contextlib.contextmanager
def alone(lock: Path, give_up: Callable[[], bool], tell: Callable[[str], None]) -> Iterator[bool]:
    """Hold a file lock that the kernel gives back at death; False where ``give_up`` said so first.

    ``tell`` is given a line for the job's log when the wait gets long.

    A predecessor that still has it lost the job's lease before this worker got it. It can be dying, or be
    stopped: then it would write on its checkpoints when it wakes. On this machine it is killed; on another
    one it is waited for, and leaves as soon as it wakes and asks for its lease.
    """
    began, told = time.monotonic(), False
    with lock.open("a+") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                held.seek(0)
                holder = held.read()
                kill_if_ours(holder)
                if not told and time.monotonic() - began > PATIENCE_S:
                    told = True
                    tell(f"Waiting: an earlier worker ({holder or 'unknown'}) still holds this job's files")
            if give_up():
                yield False
                return
            time.sleep(0.1)
        held.truncate(0)
        held.write(this_process())
        held.flush()
        yield True


class _Lease:
    """Holds the job's lease from a thread; the process leaves at once when lease or supervisor is lost."""

    def __init__(
        self, workspace: Workspace, job_id: str, worker: str, supervisor_pid: int, lease_s: float
    ) -> None:
        self._workspace = workspace
        self._job_id = job_id
        self._worker = worker
        self._supervisor_pid = supervisor_pid
        self._lease_s = lease_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="lease", daemon=True)

    def __enter__(self) -> None:
        if not self._workspace.jobs.heartbeat(self._job_id, self._worker, self._lease_s):
            sys.exit(EXIT_LEASE_LOST)
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _hold(self) -> None:
        held_until = time.monotonic() + self._lease_s
        while not self._over.wait(min(1.0, self._lease_s / 4)):
            if os.getppid() != self._supervisor_pid:  # for systems without PR_SET_PDEATHSIG
                os._exit(EXIT_LEASE_LOST)
            left = held_until - time.monotonic()
            if left > self._lease_s * 3 / 4:
                continue
            if self._beat():
                held_until = time.monotonic() + self._lease_s

    def _beat(self) -> bool:
        """Hold the lease for longer; False when the database is away.

        The work goes on then, even past the lease: nobody can have taken the job over through the same
        database, and whatever is written first asks whether this worker still holds it.
        """
        from tunery.core.errors import TuneryError
        from tunery.core.job import FINAL_STATUSES

        try:
            if self._workspace.jobs.heartbeat(self._job_id, self._worker, self._lease_s):
                return True
            job = self._workspace.jobs.get(self._job_id)
        except TuneryError:
            return False
        # A job that has ended may have been ended by this very worker, which is about to leave by itself.
        if not self._over.is_set() and (job.status not in FINAL_STATUSES or not self._over.wait(FAREWELL_S)):
            os._exit(EXIT_LEASE_LOST)
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
