"""The subprocess of one job: ``python -m tunery.pipeline.jobs.worker JOB WORKER SUPERVISOR_PID LEASE_S``."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunery.store.workspace import Workspace

PR_SET_PDEATHSIG = 1
"""From ``<linux/prctl.h>``."""
EXIT_INTERRUPTED = 75
"""The job is not over: sysexits' EX_TEMPFAIL."""
EXIT_LEASE_LOST = 76
"""Another worker has the job."""


def main(argv: Sequence[str]) -> int:
    """Run one job whose lease this worker holds."""
    job_id, worker, supervisor_pid, lease_s = argv
    die_with(int(supervisor_pid))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Slow imports come after the parent is watched.
    from tunery.core.ids import check_id
    from tunery.pipeline.jobs.run import run_job
    from tunery.store.workspace import Workspace

    workspace = Workspace.open()
    try:
        lease = _Lease(workspace, job_id, worker, int(supervisor_pid), float(lease_s))
        with _alone(workspace.root / "logs" / f"{check_id(job_id, 'job')}.lock", float(lease_s)), lease:
            return 0 if run_job(workspace, job_id, worker, stop.is_set) else EXIT_INTERRUPTED
    finally:
        workspace.close()


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
def _alone(lock: Path, patience_s: float) -> Iterator[None]:
    """Hold a file lock that the kernel gives back at death; wait for a predecessor that is just dying."""
    waits_until = time.monotonic() + patience_s
    with lock.open("a") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > waits_until:
                    sys.exit(EXIT_LEASE_LOST)
                time.sleep(0.1)
        yield


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
            elif left <= 0:
                os._exit(EXIT_LEASE_LOST)

    def _beat(self) -> bool:
        """Hold the lease for longer; False when the database is away, which a lease outlives for a while."""
        from tunery.core.errors import ResourceError

        try:
            if self._workspace.jobs.heartbeat(self._job_id, self._worker, self._lease_s):
                return True
        except ResourceError:
            return False
        if not self._over.is_set():  # else this worker itself has just ended the job
            job = self._workspace.jobs.get(self._job_id)
            if job.status == "running":
                os._exit(EXIT_LEASE_LOST)
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
