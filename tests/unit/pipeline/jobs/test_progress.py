"""Progress as a job's events."""

from __future__ import annotations

from tests.unit.pipeline.jobs.queued_jobs import add_job

from tunery.pipeline.jobs.progress import JobProgress
from tunery.store.workspace import Workspace


class Ticks:
    """A clock that moves when set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def progress(workspace: Workspace, ticks: Ticks) -> JobProgress:
    return JobProgress(workspace, "ftjob-1", interval_s=1.0, monotonic=ticks)


def steps(workspace: Workspace) -> list[int]:
    events = workspace.jobs.events("ftjob-1", limit=1000).items[::-1]
    return [int(e.data["step"]) for e in events if e.type == "metrics"]


def tell(reporting: JobProgress, step: int, **numbers: float) -> None:
    losses = numbers or {"train_loss": 1.0 / step}
    reporting.event(f"Step {step}/10", data={"step": step, "total_steps": 10, "epoch": 0.5, **losses})


def test_steps_are_reported_at_most_once_a_second_but_first_last_and_validated_always(
    workspace: Workspace,
) -> None:
    add_job(workspace)
    ticks = Ticks()
    reporting = progress(workspace, ticks)
    for step in range(1, 11):
        tell(reporting, step)
        if step == 4:
            tell(reporting, step, validation_loss=0.5)
        ticks.now += 0.4
    assert steps(workspace) == [1, 4, 4, 7, 10]
    validated = [e for e in workspace.jobs.events("ftjob-1").items if "valid_loss" in e.data]
    assert validated[0].data == {"step": 4, "total_steps": 10, "valid_loss": 0.5}


def test_a_second_worker_repeats_neither_steps_nor_sentences(workspace: Workspace) -> None:
    add_job(workspace)
    first = progress(workspace, Ticks())
    with first.task("training", 10):
        first.event("continuing from step 2 of 10")
        for step in (1, 2, 3):
            tell(first, step, validation_loss=1.0)
    before = workspace.jobs.events("ftjob-1", limit=100).items
    second = progress(workspace, Ticks())
    with second.task("training", 10):
        for step in (2, 3):
            tell(second, step, validation_loss=1.0)
    assert workspace.jobs.events("ftjob-1", limit=100).items == before
    tell(second, 4, validation_loss=1.0)
    assert steps(workspace) == [1, 2, 3, 4]


def test_cancelling_is_seen_within_a_second_without_asking_at_each_step(workspace: Workspace) -> None:
    job = add_job(workspace)
    ticks = Ticks()
    reporting = progress(workspace, ticks)
    assert not reporting.stop_requested()
    workspace.jobs.update(job.id, status="running", worker="w", cancel_requested=True)
    assert not reporting.stop_requested()
    ticks.now = 1.0
    assert reporting.stop_requested()


def test_clients_read_of_their_files_by_id_and_of_no_place_on_the_server(workspace: Workspace) -> None:
    add_job(workspace)
    place = workspace.root / "files" / "file-1a2b" / "content.jsonl"
    progress(workspace, Ticks()).event(f"{place}: the base takes 3 rows of {place}; elsewhere /etc/x")
    said = workspace.jobs.events("ftjob-1", limit=1).items[0].message
    assert said == "file-1a2b: the base takes 3 rows of file-1a2b; elsewhere /etc/x"
