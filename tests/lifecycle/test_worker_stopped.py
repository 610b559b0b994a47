"""A worker that sleeps past its lease: whoever comes back late changes nothing of what became of its job."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.lifecycle.test_loop import recipe, write_rows
from tunery.core.run import Run
from tunery.pipeline.jobs.submit import start_job
from tunery.pipeline.jobs.supervisor import Supervisor, SupervisorSettings
from tunery.pipeline.recipe import parse_recipe
from tunery.store.jobs import Line
from tunery.store.workspace import Workspace

SETTINGS = SupervisorSettings(poll_s=0.05, lease_s=3.0, grace_s=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("asleep_after", ["start", "training"])
def test_a_worker_that_wakes_after_its_job_failed_registers_nothing(
    workspace: Workspace, tiny_model: Path, tmp_path: Path, asleep_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = f"sqlite:///{workspace.root}/tunery.db"
    monkeypatch.setenv("TUNERY_DATABASE_URL", database)
    write_rows(tmp_path / "rows.csv", classes=("card_arrival", "exchange_rate"), per_class=30)
    wanted = recipe(str(tiny_model), gate={"rules": [{"metric": "exact_match", "at_least": 0.0}]})
    parsed = parse_recipe(wanted, where="test")
    job = start_job(workspace, parsed, base_dir=tmp_path, recipe_path=tmp_path / "r.yaml", actor="test")
    supervisor = Supervisor(workspace, SETTINGS)
    supervisor.start()
    try:
        worker = worker_of(job.id)
        if asleep_after == "training":
            wait_for(lambda: bool(workspace.jobs.checkpoints(job.id).items))
        worker.send_signal(signal.SIGSTOP)
        other = Workspace.open(workspace.root, database_url=database)
        # A server on another machine takes the job over once the lease is out, and fails it.
        wait_for(lambda: other.jobs.claim("elsewhere:1/1-1/x", 60, "elsewhere") is not None)
        error = {"code": "worker_died", "message": "x", "param": None}
        other.jobs.finish(job.id, "elsewhere:1/1-1/x", "failed", [Line("The job failed: x")], error=error)
        before = seen(other, job.id)
        worker.send_signal(signal.SIGCONT)
        wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
        time.sleep(0.5)
        assert seen(other, job.id) == before
        assert other.models.names() == []
        assert other.jobs.get(job.id).status == "failed"
        other.close()
    finally:
        supervisor.stop()


def seen(workspace: Workspace, job_id: str) -> tuple[object, list[str], list[Run]]:
    events = [event.message for event in workspace.jobs.every_event(job_id)]
    return workspace.jobs.get(job_id), events, workspace.runs.list()


def worker_of(job_id: str) -> psutil.Process:
    found: list[psutil.Process] = []

    def look() -> bool:
        children = psutil.Process().children(recursive=True)
        found[:] = [child for child in children if job_id in child.cmdline()]
        return bool(found)

    wait_for(look)
    return found[0]


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)
