"""The queue: who gets which job when, and what a job's log says."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.unit.store import samples
from tests.unit.store.conftest import ManualClock, url_of
from tunery.core.errors import ConflictError, LeaseLostError, NotFoundError
from tunery.core.job import Job
from tunery.store.database import Transaction
from tunery.store.jobs import Line
from tunery.store.records import Records
from tunery.store.workspace import Workspace


def claimed(workspace: Workspace, worker: str = "w1", device: str = "local") -> Job:
    job = workspace.jobs.claim(worker, 60, device)
    assert job is not None
    return job


def test_the_oldest_queued_job_is_claimed_first(workspace: Workspace, clock: ManualClock) -> None:
    for id in ("ftjob-b", "ftjob-a"):
        workspace.jobs.add(samples.job(id))
    first = claimed(workspace)
    assert (first.id, first.status, first.worker, first.attempts) == ("ftjob-b", "running", "w1", 1)
    assert first.started_at == clock.now()
    assert first.lease_until is not None
    assert (first.lease_until - clock.now()).total_seconds() == 60
    assert workspace.jobs.get("ftjob-b") == first
    assert claimed(workspace, "w2", "gpu-1").id == "ftjob-a"
    assert workspace.jobs.claim("w3", 60, "gpu-2") is None


def test_a_device_runs_one_job_at_a_time_and_two_devices_run_two(workspace: Workspace) -> None:
    for id in ("ftjob-1", "ftjob-2", "ftjob-3"):
        workspace.jobs.add(samples.job(id))
    assert claimed(workspace, "w1", "here/local").id == "ftjob-1"
    assert workspace.jobs.claim("w2", 60, "here/local") is None
    second = claimed(workspace, "w3", "there/local")
    assert (second.id, second.device) == ("ftjob-2", "there/local")
    assert workspace.jobs.claim("w4", 60, "there/local") is None
    workspace.jobs.finish("ftjob-1", "w1", "succeeded")
    assert claimed(workspace, "w5", "here/local").id == "ftjob-3"


def test_a_claim_whose_answer_was_lost_gives_the_same_job_again(workspace: Workspace) -> None:
    for id in ("ftjob-1", "ftjob-2"):
        workspace.jobs.add(samples.job(id))
    first = claimed(workspace, "w1", "gpu-1")
    assert workspace.jobs.claim("w1", 60, "gpu-1") == first
    assert first.attempts == 1


def test_a_job_comes_with_the_first_lines_of_its_log_or_not_at_all(workspace: Workspace) -> None:
    lines = [Line("Created"), Line("Queued")]
    made = workspace.jobs.create(samples.job(status="validating_files"), lines)
    assert made.status == "queued"
    assert workspace.jobs.create(samples.job(), lines) == made
    assert [e.message for e in workspace.jobs.events("ftjob-1").items] == ["Queued", "Created"]
    again = workspace.jobs.create(samples.job("ftjob-2"), lines, is_same=lambda job: job.id == "ftjob-1")
    assert again == made
    assert [job.id for job in workspace.jobs.list()] == ["ftjob-1"]


def test_nothing_is_left_of_a_creation_that_breaks_midway(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Records.insert

    def break_at_the_second_event(self: Records[Any], transaction: Transaction, record: Any) -> Any:
        if getattr(record, "message", None) == "Queued":
            raise KeyError("killed here")
        return insert(self, transaction, record)

    monkeypatch.setattr(Records, "insert", break_at_the_second_event)
    with pytest.raises(KeyError):
        workspace.jobs.create(samples.job(), [Line("Created"), Line("Queued")])
    assert workspace.jobs.list() == []


def test_only_who_holds_a_job_puts_it_back(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    clock.pass_(61)
    claimed(workspace, "w2")
    assert not workspace.jobs.put_back("ftjob-1", "w1", Line("late"))
    assert workspace.jobs.get("ftjob-1").worker == "w2"
    assert workspace.jobs.put_back("ftjob-1", "w2", Line("freed"))
    assert not workspace.jobs.put_back("ftjob-1", "w2", Line("late"))
    job = workspace.jobs.get("ftjob-1")
    assert (job.status, job.worker, job.attempts) == ("queued", None, 2)
    assert [e.message for e in workspace.jobs.events("ftjob-1").items] == ["freed"]


def test_a_running_job_is_not_queued_again(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job(status="validating_files"))
    assert workspace.jobs.enqueue("ftjob-1")
    assert not workspace.jobs.enqueue("ftjob-1")
    held = claimed(workspace)
    assert not workspace.jobs.enqueue("ftjob-1")
    assert workspace.jobs.get("ftjob-1") == held


def test_an_attempt_counts_unless_it_came_further(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job())
    seen = []
    for turn in range(6):
        job = claimed(workspace, f"w{turn}")
        seen.append(job.attempts)
        clock.pass_(1)
        if turn in (1, 3):
            workspace.jobs.add_checkpoint("ftjob-1", turn, {})
        if turn % 2:
            workspace.jobs.put_back("ftjob-1", f"w{turn}")
        else:
            clock.pass_(61)  # nobody puts it back: the lease runs out
    assert seen == [1, 2, 2, 3, 3, 4]


def test_whoever_lost_a_job_writes_nothing_at_all(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    home = workspace.root
    stale = Workspace.open(home, database_url=url_of(workspace), clock=clock)
    stale.jobs.stand_fence("ftjob-1", "w1")
    stale.models.register(samples.version())
    stale.jobs.add_event("ftjob-1", "held")
    clock.pass_(61)
    claimed(workspace, "w2")
    late: list[Callable[[], Any]] = [
        lambda: stale.models.register(samples.version()),
        lambda: stale.models.set_alias("support-bot", "champion", 1, actor="x", reason="x"),
        lambda: stale.models.delete("support-bot", 1),
        lambda: stale.rollouts.add(samples.rollout()),
        lambda: stale.runs.add(samples.run()),
        lambda: stale.adapters.add(samples.adapter()),
        lambda: stale.evaluations.add(samples.evaluation()),
        lambda: stale.jobs.add_event("ftjob-1", "late"),
        lambda: stale.jobs.add_event_once("ftjob-1", "late"),
        lambda: stale.jobs.add_checkpoint("ftjob-1", 3, {}),
        lambda: stale.jobs.update("ftjob-1", model_version="support-bot@1"),
        lambda: stale.jobs.finish("ftjob-1", "w1", "succeeded"),
        lambda: stale.files.add(samples.stored_file()),
    ]
    for write in late:
        with pytest.raises(LeaseLostError, match="no longer held by w1"):
            write()
    with pytest.raises(LeaseLostError), stale.artifacts.create("adapters", "adapter-1", {}) as folder:
        (folder / "weights").write_bytes(b"x")
    assert stale.artifacts.ids("adapters") == []
    stale.close()
    assert [e.message for e in workspace.jobs.events("ftjob-1").items] == ["held"]
    assert [v.ref for v in workspace.models.list()] == ["support-bot@1"]
    assert workspace.models.aliases("support-bot") == {}
    assert workspace.runs.list() == workspace.rollouts.list() == workspace.files.list() == []
    assert workspace.jobs.get("ftjob-1").worker == "w2"


def test_a_held_row_keeps_a_takeover_out_until_the_write_is_done(
    workspace: Workspace, clock: ManualClock
) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    holder = Workspace.open(workspace.root, database_url=url_of(workspace), clock=clock)
    holder.jobs.stand_fence("ftjob-1", "w1")
    clock.pass_(61)
    with ThreadPoolExecutor(1) as pool:
        with holder.database.transaction() as transaction:
            taking = pool.submit(claimed, workspace, "w2")
            with pytest.raises(TimeoutError):
                taking.result(timeout=0.3)
            transaction.run("INSERT INTO model_names (name, last_version) VALUES ('x', 1)")
        assert taking.result(timeout=30).worker == "w2"
    holder.close()


def test_a_job_whose_worker_is_long_gone_is_cancelled_at_once(
    workspace: Workspace, clock: ManualClock
) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    clock.pass_(61)
    assert workspace.jobs.request_cancel("ftjob-1").status == "cancelled"
    assert not workspace.jobs.heartbeat("ftjob-1", "w1", 60)


def test_jobs_are_counted_by_status(workspace: Workspace) -> None:
    for number in range(3):
        workspace.jobs.add(samples.job(f"ftjob-{number}"))
    claimed(workspace)
    assert workspace.jobs.counts() == {("default", "queued"): 2, ("default", "running"): 1}


def test_a_job_whose_files_are_still_checked_is_not_claimed(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job(status="validating_files"))
    assert workspace.jobs.claim("w1", 60) is None
    workspace.jobs.update("ftjob-1", status="queued")
    assert claimed(workspace).id == "ftjob-1"


def test_a_dead_workers_job_is_taken_over_before_the_queue(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job("ftjob-1"))
    started = claimed(workspace).started_at
    workspace.jobs.add(samples.job("ftjob-2"))
    clock.pass_(60)
    assert workspace.jobs.claim("w2", 60) is None  # the lease holds to its last moment
    clock.pass_(0.001)
    taken = claimed(workspace, "w2")
    assert (taken.id, taken.worker, taken.attempts) == ("ftjob-1", "w2", 2)
    assert taken.started_at == started


def test_a_heartbeat_keeps_a_job_from_being_taken(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    for _ in range(3):
        clock.pass_(50)
        assert workspace.jobs.heartbeat("ftjob-1", "w1", 60)
    assert workspace.jobs.claim("w2", 60) is None


def test_who_lost_a_job_hears_it_from_heartbeat_and_finish(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    clock.pass_(61)
    claimed(workspace, "w2")
    assert not workspace.jobs.heartbeat("ftjob-1", "w1", 60)
    with pytest.raises(ConflictError, match="held by w2"):
        workspace.jobs.finish("ftjob-1", "w1", "succeeded")
    done = workspace.jobs.finish("ftjob-1", "w2", "succeeded", model_version="support-bot@1")
    assert (done.status, done.model_version, done.worker, done.lease_until) == (
        "succeeded",
        "support-bot@1",
        None,
        None,
    )
    assert done.finished_at == clock.now()
    with pytest.raises(ConflictError, match="succeeded"):
        workspace.jobs.finish("ftjob-1", "w2", "failed")
    assert not workspace.jobs.heartbeat("ftjob-1", "w2", 60)


def test_who_was_late_but_not_replaced_keeps_the_job(workspace: Workspace, clock: ManualClock) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    clock.pass_(3600)
    assert workspace.jobs.heartbeat("ftjob-1", "w1", 60)
    assert workspace.jobs.claim("w2", 60) is None
    assert workspace.jobs.finish("ftjob-1", "w1", "failed").status == "failed"


def test_a_job_does_not_end_by_running(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    with pytest.raises(ValueError, match="does not end running"):
        workspace.jobs.finish("ftjob-1", "w1", "running")


def test_a_waiting_job_is_cancelled_at_once(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    cancelled = workspace.jobs.request_cancel("ftjob-1")
    assert (cancelled.status, cancelled.cancel_requested) == ("cancelled", True)
    assert cancelled.finished_at is not None
    assert workspace.jobs.request_cancel("ftjob-1") == cancelled
    assert workspace.jobs.claim("w1", 60) is None


def test_a_running_job_is_asked_and_its_worker_ends_it(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    requested = workspace.jobs.request_cancel("ftjob-1")
    assert (requested.status, requested.cancel_requested) == ("running", True)
    assert workspace.jobs.finish("ftjob-1", "w1", "cancelled").status == "cancelled"


def test_a_waiting_job_is_paused_at_once_and_a_running_one_by_its_worker(
    workspace: Workspace, clock: ManualClock
) -> None:
    jobs = workspace.jobs
    jobs.add(samples.job())
    assert jobs.request_pause("ftjob-1").status == "paused"
    assert jobs.request_pause("ftjob-1").status == "paused"
    assert jobs.claim("w1", 60) is None
    assert jobs.resume("ftjob-1", ended=False).status == "queued"
    claimed(workspace)
    assert (jobs.request_pause("ftjob-1").status, jobs.get("ftjob-1").pause_requested) == ("running", True)
    assert jobs.resume("ftjob-1").status == "running"
    assert not jobs.get("ftjob-1").pause_requested
    jobs.request_pause("ftjob-1")
    assert jobs.put_back("ftjob-1", "w1", Line("The server was stopped"))
    assert (jobs.get("ftjob-1").status, jobs.get("ftjob-1").attempts) == ("paused", 0)
    jobs.resume("ftjob-1")
    claimed(workspace, "w2")
    jobs.request_pause("ftjob-1")
    clock.pass_(61)  # its worker died before it saw that
    assert jobs.claim("w3", 60) is None
    assert jobs.get("ftjob-1").status == "paused"
    assert jobs.request_cancel("ftjob-1").status == "cancelled"
    with pytest.raises(ConflictError, match="is cancelled"):
        jobs.request_pause("ftjob-1")
    with pytest.raises(ConflictError, match="only a paused one"):
        jobs.resume("ftjob-1", ended=False)


def test_an_ended_job_cannot_be_cancelled(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    claimed(workspace)
    workspace.jobs.finish("ftjob-1", "w1", "succeeded")
    with pytest.raises(ConflictError, match="has succeeded"):
        workspace.jobs.request_cancel("ftjob-1")


def test_a_dead_workers_job_that_was_asked_to_stop_is_not_started_again(
    workspace: Workspace, clock: ManualClock
) -> None:
    workspace.jobs.add(samples.job("ftjob-1"))
    workspace.jobs.add(samples.job("ftjob-2"))
    claimed(workspace)
    workspace.jobs.request_cancel("ftjob-1")
    clock.pass_(61)
    assert claimed(workspace, "w2").id == "ftjob-2"
    assert workspace.jobs.get("ftjob-1").status == "cancelled"


def test_jobs_are_paged_newest_first(workspace: Workspace) -> None:
    for number in range(5):
        workspace.jobs.add(samples.job(f"ftjob-{number}"))
    first = workspace.jobs.page(limit=2)
    assert ([job.id for job in first.items], first.has_more) == (["ftjob-4", "ftjob-3"], True)
    second = workspace.jobs.page(after="ftjob-3", limit=3)
    assert ([job.id for job in second.items], second.has_more) == (["ftjob-2", "ftjob-1", "ftjob-0"], False)
    with pytest.raises(NotFoundError, match="ftjob-9"):
        workspace.jobs.page(after="ftjob-9")


def test_jobs_are_found_by_their_metadata_across_pages(workspace: Workspace) -> None:
    def of_team_blue(job: Job) -> bool:
        return bool((job.request["metadata"] or {}).get("team") == "blue")

    for number in range(230):
        team = "blue" if number % 50 == 0 else "red"
        workspace.jobs.add(samples.job(f"ftjob-{number}", request={"metadata": {"team": team}}))
    workspace.jobs.add(samples.job("ftjob-none", request={"metadata": None}))
    blue = workspace.jobs.filtered(of_team_blue, limit=3)
    assert ([job.id for job in blue.items], blue.has_more) == (["ftjob-200", "ftjob-150", "ftjob-100"], True)
    rest = workspace.jobs.filtered(of_team_blue, after="ftjob-100", limit=2)
    assert ([job.id for job in rest.items], rest.has_more) == (["ftjob-50", "ftjob-0"], False)
    assert workspace.jobs.filtered(lambda job: job.request["metadata"] == {}).items == []


def test_events_of_one_moment_keep_their_order_newest_first(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    workspace.jobs.add(samples.job("ftjob-2"))
    added = [workspace.jobs.add_event("ftjob-1", f"line {number}") for number in range(5)]
    workspace.jobs.add_event("ftjob-2", "of another job")
    page = workspace.jobs.events("ftjob-1", limit=3)
    assert (page.items, page.has_more) == (added[:1:-1], True)
    rest = workspace.jobs.events("ftjob-1", after=page.items[-1].id)
    assert (rest.items, rest.has_more) == (added[1::-1], False)


def test_an_event_carries_its_numbers(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    event = workspace.jobs.add_event(
        "ftjob-1", "step 3", level="warn", type="metrics", data={"step": 3, "train_loss": 0.5}
    )
    assert workspace.jobs.events("ftjob-1").items == [event]
    assert (event.level, event.type, event.data) == ("warn", "metrics", {"step": 3, "train_loss": 0.5})


def test_a_checkpoint_passed_again_after_takeover_is_noted_once(workspace: Workspace) -> None:
    workspace.jobs.add(samples.job())
    first = workspace.jobs.add_checkpoint("ftjob-1", 10, {"valid_loss": 0.9})
    second = workspace.jobs.add_checkpoint("ftjob-1", 20, {"valid_loss": 0.8})
    assert workspace.jobs.add_checkpoint("ftjob-1", 10, {"valid_loss": 0.9}) == first
    page = workspace.jobs.checkpoints("ftjob-1")
    assert (page.items, page.has_more) == ([second, first], False)


def test_the_log_of_an_unknown_job_is_not_found(workspace: Workspace) -> None:
    for ask in (
        lambda: workspace.jobs.events("ftjob-9"),
        lambda: workspace.jobs.checkpoints("ftjob-9"),
        lambda: workspace.jobs.add_event("ftjob-9", "x"),
        lambda: workspace.jobs.add_checkpoint("ftjob-9", 1, {}),
        lambda: workspace.jobs.heartbeat("ftjob-9", "w1", 1),
        lambda: workspace.jobs.request_cancel("ftjob-9"),
    ):
        with pytest.raises(NotFoundError, match="ftjob-9"):
            ask()
