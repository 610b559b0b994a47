"""The supervisor, with workers that are a line of Python each."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.unit.pipeline.jobs.queued_jobs import add_job

from tunery.core.errors import ResourceError, UnavailableError
from tunery.core.job import Job
from tunery.pipeline.jobs.processes import machine_identity, process_identity
from tunery.pipeline.jobs.supervisor import Supervisor, SupervisorSettings, recover
from tunery.store.workspace import Workspace

FAST = SupervisorSettings(poll_s=0.02, grace_s=0.5, lease_s=60, max_attempts=3)


def python(code: str):  # type: ignore[no-untyped-def]
    def command(job_id: str, worker: str, lease_s: float) -> Sequence[str]:
        return [sys.executable, "-c", code, job_id, worker]

    return command


def finishing(workspace: Workspace, code: str = "") -> str:
    """A worker that ends its job as succeeded."""
    return (
        f"{code}\nimport sys; from pathlib import Path; from tunery.store.workspace import Workspace\n"
        f"w = Workspace.open(Path({str(workspace.root)!r}), database_url="
        f"'sqlite:///{workspace.root}/tunery.db')\n"
        "w.jobs.finish(sys.argv[1], sys.argv[2], 'succeeded')"
    )


@contextmanager
def supervising(workspace: Workspace, code: str, settings: SupervisorSettings = FAST) -> Iterator[Supervisor]:
    supervisor = Supervisor(workspace, settings, command=python(code))
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def until(workspace: Workspace, job_id: str, *statuses: str, seconds: float = 30) -> Job:
    deadline = time.monotonic() + seconds
    while (job := workspace.jobs.get(job_id)).status not in statuses:
        assert time.monotonic() < deadline, f"{job_id} is {job.status}"
        time.sleep(0.02)
    return job


def said(workspace: Workspace, job_id: str) -> list[str]:
    return [e.message for e in workspace.jobs.events(job_id, limit=100).items][::-1]


OTHERS: set[int] = set()
"""Processes that earlier tests left to this one, such as workers of a build that wait for more to do."""


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update(p.pid for p in psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [p for p in found if p.pid not in OTHERS and p.status() != psutil.STATUS_ZOMBIE]


def test_jobs_run_one_after_another_oldest_first(workspace: Workspace) -> None:
    for number in (1, 2, 3):
        add_job(workspace, number)
    with supervising(workspace, finishing(workspace)):
        for number in (1, 2, 3):
            until(workspace, f"ftjob-{number}", "succeeded")
    ended = [workspace.jobs.get(f"ftjob-{n}") for n in (1, 2, 3)]
    for before, after in itertools.pairwise(ended):
        assert before.finished_at is not None
        assert after.started_at is not None
        assert after.started_at >= before.finished_at


def test_a_worker_that_keeps_dying_is_tried_three_times_and_its_last_words_are_reported(
    workspace: Workspace,
) -> None:
    add_job(workspace)
    with supervising(workspace, "import sys; print('out of', 'cheese', file=sys.stderr); sys.exit(7)"):
        job = until(workspace, "ftjob-1", "failed")
    assert job.attempts == 3
    assert job.error is not None
    assert job.error["code"] == "worker_died"
    assert "exit code 7" in job.error["message"]
    assert "out of cheese" in job.error["message"]
    told = said(workspace, "ftjob-1")
    assert sum("starting again from the last checkpoint" in m for m in told) == 2


def test_a_worker_that_died_once_is_replaced(workspace: Workspace) -> None:
    add_job(workspace)
    marker = workspace.root / "died-once"
    die_once = (
        f"import os, pathlib, signal; m = pathlib.Path({str(marker)!r})\n"
        "if not m.exists(): m.touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with supervising(workspace, finishing(workspace, die_once)):
        job = until(workspace, "ftjob-1", "succeeded", "failed")
    assert job.status == "succeeded"
    assert job.attempts == 2
    assert "signal SIGKILL" in said(workspace, "ftjob-1")[0]


def test_cancelling_stops_a_worker_that_ignores_the_polite_signal(workspace: Workspace) -> None:
    add_job(workspace)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    with supervising(workspace, deaf):
        until(workspace, "ftjob-1", "running")
        workspace.jobs.request_cancel("ftjob-1")
        job = until(workspace, "ftjob-1", "cancelled")
        assert job.finished_at
    assert said(workspace, "ftjob-1") == ["The job was cancelled"]
    assert children() == []


def test_pausing_stops_a_worker_and_keeps_its_job_out_of_the_queue(workspace: Workspace) -> None:
    add_job(workspace)
    with supervising(workspace, "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"):
        until(workspace, "ftjob-1", "running")
        assert workspace.jobs.request_pause("ftjob-1").status == "running"
        job = until(workspace, "ftjob-1", "paused")
        assert (job.attempts, job.worker, job.pause_requested) == (0, None, False)
        assert children() == []
        workspace.jobs.resume("ftjob-1")
        until(workspace, "ftjob-1", "running")
    assert said(workspace, "ftjob-1")[0].startswith("The job was paused")


def test_stopping_the_supervisor_puts_the_job_back_without_counting_it(workspace: Workspace) -> None:
    add_job(workspace)
    with supervising(workspace, "import time; time.sleep(600)"):
        until(workspace, "ftjob-1", "running")
        while not children():
            time.sleep(0.01)
    job = workspace.jobs.get("ftjob-1")
    assert (job.status, job.attempts, job.worker) == ("queued", 0, None)
    assert children() == []


def test_a_workers_own_children_go_with_it(workspace: Workspace) -> None:
    add_job(workspace)
    noted = workspace.root / "child"
    leaving = (
        "import subprocess, sys, pathlib\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(noted)!r}).write_text(str(p.pid))"
    )
    with supervising(workspace, finishing(workspace, leaving)):
        until(workspace, "ftjob-1", "succeeded")
        deadline = time.monotonic() + 10
        while psutil.pid_exists(pid := int(noted.read_text())):
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_job_of_a_supervisor_that_is_gone_is_freed_at_start(workspace: Workspace) -> None:
    add_job(workspace)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    identity = process_identity(dead.pid)
    dead.wait()
    assert workspace.jobs.claim(f"{machine_identity()}/{identity}/abc", 600) is not None
    assert workspace.jobs.claim("other", 600) is None
    recover(workspace)
    job = workspace.jobs.get("ftjob-1")
    assert (job.status, job.attempts) == ("queued", 1), "what it died of is not known"
    assert said(workspace, "ftjob-1") == ["The server was stopped; continuing from the last checkpoint"]


@pytest.mark.parametrize(
    "holder",
    ["{host}/{alive}/abc", "elsewhere/1-1/abc", "{name}:12345678/999999-1/abc", "{name}/999999-1/abc"],
)
def test_a_job_that_may_still_be_held_is_left_alone(workspace: Workspace, holder: str) -> None:
    add_job(workspace)
    alive = process_identity(os.getpid())
    name = holder.format(host=machine_identity(), name=os.uname().nodename, alive=alive)
    assert workspace.jobs.claim(name, 600) is not None
    recover(workspace)
    assert workspace.jobs.get("ftjob-1").worker == name


def test_the_same_process_number_with_another_start_is_gone(workspace: Workspace) -> None:
    add_job(workspace)
    assert workspace.jobs.claim(f"{machine_identity()}/{os.getpid()}-12345/abc", 600) is not None
    recover(workspace)
    assert workspace.jobs.get("ftjob-1").status == "queued"


def test_a_job_left_between_creation_and_the_queue_is_queued(workspace: Workspace) -> None:
    add_job(workspace, status="validating_files")
    recover(workspace)
    recover(workspace)
    assert workspace.jobs.get("ftjob-1").status == "queued"
    assert said(workspace, "ftjob-1") == ["Files validated, moving job to queued state"]


def test_an_event_is_reported_once(workspace: Workspace) -> None:
    job = add_job(workspace)
    for number in range(120):
        workspace.jobs.add_event(job.id, f"line {number}")
    for _ in range(2):
        workspace.jobs.add_event_once(job.id, "line 0")
        workspace.jobs.add_event_once(job.id, "once")
    messages = [e.message for e in workspace.jobs.events(job.id, limit=1000).items]
    assert len(messages) == 121


def test_a_job_that_takes_its_server_with_it_is_not_tried_for_ever(workspace: Workspace) -> None:
    add_job(workspace)
    servers = 0
    while workspace.jobs.get("ftjob-1").status not in ("failed", "succeeded"):
        servers += 1
        assert servers < 10
        dead = subprocess.Popen([sys.executable, "-c", ""])
        identity = process_identity(dead.pid)
        dead.wait()
        # A server takes the job and is gone with it; the next one starts.
        claimed = workspace.jobs.claim(f"{machine_identity()}/{identity}/{servers}", 600)
        recover(workspace)
        if claimed is not None and claimed.attempts == FAST.max_attempts:
            with supervising(workspace, "import time; time.sleep(600)"):
                until(workspace, "ftjob-1", "failed")
    job = workspace.jobs.get("ftjob-1")
    assert servers == FAST.max_attempts
    assert job.error is not None
    assert job.error["code"] == "worker_died"
    assert "3 workers in a row ended without coming further" in job.error["message"]


def test_a_job_left_in_creation_is_queued_while_the_server_runs(workspace: Workspace) -> None:
    with supervising(workspace, finishing(workspace)):
        time.sleep(0.1)
        add_job(workspace, status="validating_files")
        assert until(workspace, "ftjob-1", "succeeded").attempts == 1


def test_a_starting_server_leaves_the_running_job_of_another_one_alone(workspace: Workspace) -> None:
    add_job(workspace)
    with supervising(workspace, "import time; time.sleep(600)"):
        held = until(workspace, "ftjob-1", "running")
        with supervising(workspace, finishing(workspace)):
            time.sleep(0.3)
            assert workspace.jobs.get("ftjob-1") == held


def test_two_servers_with_a_device_each_run_two_jobs(workspace: Workspace) -> None:
    add_job(workspace, 1)
    add_job(workspace, 2)
    code = "import time; time.sleep(600)"
    other = FAST.model_copy(update={"device": "second"})
    with supervising(workspace, code), supervising(workspace, code, other):
        devices = {until(workspace, f"ftjob-{n}", "running").device for n in (1, 2)}
    assert devices == {f"{machine_identity()}/local", f"{machine_identity()}/second"}


def test_a_worker_that_leaves_because_it_lost_its_lease_does_not_count(workspace: Workspace) -> None:
    add_job(workspace)
    marker = workspace.root / "left-once"
    leave = (
        f"import os, pathlib; m = pathlib.Path({str(marker)!r})\n"
        "n = len(m.read_text()) if m.exists() else 0\n"
        "if n < 5: m.write_text('x' * (n + 1)); os._exit(76)"
    )
    with supervising(workspace, finishing(workspace, leave)):
        job = until(workspace, "ftjob-1", "succeeded", "failed")
    assert (job.status, job.attempts) == ("succeeded", 1)


def test_a_killed_worker_is_told_of_in_words(workspace: Workspace) -> None:
    add_job(workspace)
    workspace.jobs.add_event("ftjob-1", "Step 7 of 100")
    with supervising(workspace, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"):
        job = until(workspace, "ftjob-1", "failed")
    assert job.error is not None
    said = job.error["message"]
    assert "SIGKILL" in said
    assert "most likely because the machine or its container ran out of memory" in said
    assert "it wrote nothing; the last event was: The worker ended with" in said
    assert "(nothing)" not in said


def test_a_worker_that_cannot_be_started_fails_its_job_after_its_attempts(workspace: Workspace) -> None:
    add_job(workspace)
    supervisor = Supervisor(workspace, FAST, command=lambda *_: ["/no/such/program"])
    supervisor.start()
    try:
        job = until(workspace, "ftjob-1", "failed")
    finally:
        supervisor.stop()
    assert job.attempts == 3
    assert job.error is not None
    assert "could not be started" in job.error["message"]


def test_an_outage_at_any_moment_ends_neither_the_supervisor_nor_the_job(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_job(workspace, 1)
    away = threading.Event()
    connection = workspace.database.driver.connect

    def connect() -> object:
        if away.is_set():
            raise UnavailableError("the database is away")
        return connection()

    monkeypatch.setattr(workspace.database.driver, "connect", connect)
    with supervising(workspace, finishing(workspace, "import time; time.sleep(0.5)")) as supervisor:
        until(workspace, "ftjob-1", "running")
        away.set()
        workspace.database.close()
        time.sleep(1.5)  # the worker, whose database is there, has ended meanwhile
        away.clear()
        job = until(workspace, "ftjob-1", "succeeded", "failed")
        assert (job.status, job.attempts) == ("succeeded", 1)
        add_job(workspace, 2)
        until(workspace, "ftjob-2", "succeeded")
        assert supervisor.problem() is None


def test_a_supervisor_that_cannot_work_says_so(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunery.pipeline.jobs.supervisor._ILL_AFTER_S", 0.2)

    def broken(*_: object) -> None:
        raise SystemExit("a fault that is no Exception")

    monkeypatch.setattr("tunery.pipeline.jobs.supervisor.recover", broken)
    with supervising(workspace, finishing(workspace)) as supervisor:
        deadline = time.monotonic() + 10
        while (problem := supervisor.problem()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "jobs have not been run" in problem
        monkeypatch.undo()
        add_job(workspace)
        until(workspace, "ftjob-1", "succeeded")
        assert supervisor.problem() is None


def test_workers_get_what_the_server_gives_them_once_it_can(workspace: Workspace, tmp_path: Path) -> None:
    asked: list[str] = []

    def environment() -> Mapping[str, str]:
        asked.append(workspace.jobs.get("ftjob-1").status)
        if len(asked) < 3:
            raise ResourceError("the engine is being opened again")
        return {"SHARED": "http://127.0.0.1:1/v1"}

    code = f"import os; open({str(tmp_path / 'seen')!r}, 'w').write(os.environ['SHARED'])"
    command = python(finishing(workspace, code))
    supervisor = Supervisor(workspace, FAST, command=command, environment=environment)
    supervisor.start()
    try:
        time.sleep(0.2)
        assert asked == []  # there is no job, and no engine is started for none
        add_job(workspace)
        assert until(workspace, "ftjob-1", "succeeded").attempts == 1
    finally:
        supervisor.stop()
    assert asked == ["queued"] * 3  # while it may take long, nobody holds the job
    assert (tmp_path / "seen").read_text() == "http://127.0.0.1:1/v1"
