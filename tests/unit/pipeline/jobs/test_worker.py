"""A worker's ties: to its supervisor, to its lease, to being alone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.unit.pipeline.jobs.queued_jobs import add_job

from tunery.pipeline.jobs.worker import EXIT_LEASE_LOST
from tunery.store.workspace import Workspace

TIED = """
import os, sys, time
from tunery.pipeline.jobs.worker import die_with
die_with(int(sys.argv[1]))
print("tied", flush=True)
time.sleep(600)
"""
PARENT = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {TIED!r}, str(os.getpid())], stdout=subprocess.PIPE,
                         start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's; elsewhere the lease thread looks"
)
def test_a_worker_dies_with_a_supervisor_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        _, alive = psutil.wait_procs([child], timeout=5)
        assert alive == []


def test_a_worker_whose_supervisor_ended_before_it_began_leaves(tmp_path: Path) -> None:
    # Process 1 is nobody's supervisor here.
    done = subprocess.run([sys.executable, "-c", TIED, "1"], capture_output=True, timeout=60, check=False)
    assert done.returncode == EXIT_LEASE_LOST
    assert b"tied" not in done.stdout


HOLDING = """
import sys, time
from pathlib import Path
from tunery.pipeline.jobs.worker import _Lease, alone
from tunery.store.workspace import Workspace
import os
root = Path(sys.argv[1])
workspace = Workspace.open(root, database_url=f"sqlite:///{root}/tunery.db")
patience = time.monotonic() + 0.5
with (
    _Lease(workspace, "ftjob-1", "me", os.getppid(), 1.0),
    alone(root / "one.lock", lambda: time.monotonic() > patience, print) as held,
):
    print("holding" if held else "waited in vain", flush=True)
    time.sleep(float(sys.argv[2]) if held else 0)
"""


def hold(workspace: Workspace, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDING, str(workspace.root), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_lease_is_held_for_as_long_as_the_work_takes(workspace: Workspace) -> None:
    add_job(workspace)
    workspace.jobs.claim("me", 30.0)
    with hold(workspace, 2.5) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "holding\n"
        for _ in range(8):
            time.sleep(0.25)
            assert workspace.jobs.claim("other", 30.0) is None, "taken over although its worker lives"
        assert worker.wait(timeout=30) == 0


def test_a_worker_whose_job_was_taken_over_leaves_at_once(workspace: Workspace) -> None:
    add_job(workspace)
    workspace.jobs.claim("me", 30.0)
    with hold(workspace, 600) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        workspace.jobs.update("ftjob-1", worker="other")
        assert worker.wait(timeout=30) == EXIT_LEASE_LOST


def test_a_predecessor_on_this_machine_is_killed_even_when_it_is_stopped(workspace: Workspace) -> None:
    add_job(workspace)
    workspace.jobs.claim("me", 30.0)
    with hold(workspace, 600) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.send_signal(signal.SIGSTOP)
        with hold(workspace, 0) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "holding\n"
            assert second.wait(timeout=30) == 0
        assert first.wait(timeout=30) == -signal.SIGKILL


def test_a_predecessor_on_another_machine_is_waited_for(workspace: Workspace) -> None:
    add_job(workspace)
    workspace.jobs.claim("me", 30.0)
    with (workspace.root / "one.lock").open("w") as lock:
        lock.write("elsewhere:12345678/1-1")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with hold(workspace, 600) as waiting:
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == "waited in vain\n"
            assert waiting.wait(timeout=30) == 0
    with hold(workspace, 0) as third:
        assert third.stdout is not None
        assert third.stdout.readline() == "holding\n"
