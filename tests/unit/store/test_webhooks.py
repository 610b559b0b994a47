"""The outbox of events, and the deliveries made of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.store import samples
from tests.unit.store.conftest import ManualClock
from tunery.core.errors import ConflictError
from tunery.core.webhook import Event
from tunery.store.webhooks import Wishes
from tunery.store.workspace import Workspace


def every(event: Event) -> bool:
    return True


def test_the_end_of_a_job_and_of_a_rollout_is_an_event_of_its_project(workspace: Workspace) -> None:
    view = workspace.of("acme")
    view.jobs.create(samples.job())
    assert view.jobs.claim("w1", 60) is not None
    workspace.rollouts.add(samples.rollout("rollout-1"))
    assert workspace.outbox.list() == []
    view.jobs.finish("ftjob-1", "w1", "failed")
    for _ in range(2):  # whoever comes second ends nothing, and tells of nothing
        workspace.rollouts.finish("rollout-1", "rolled_back", reason="worse", actor="canary")
    rollout, job = workspace.outbox.list()
    assert (job.type, job.project, job.data) == ("fine_tuning.job.failed", "acme", {"id": "ftjob-1"})
    assert (rollout.type, rollout.data["reason"]) == ("rollout.rolled_back", "worse")


def test_what_is_undone_was_no_event(workspace: Workspace) -> None:
    workspace.jobs.create(samples.job())
    workspace.jobs.claim("w1", 60)
    with pytest.raises(ConflictError):
        workspace.jobs.finish("ftjob-1", "w2", "succeeded")
    assert workspace.outbox.list() == []


def test_a_delivery_is_taken_by_one_server_at_a_time_when_it_is_due(
    workspace: Workspace, clock: ManualClock
) -> None:
    workspace.outbox.tell("gate.refused", id="gate-1")
    workspace.outbox.tell("batch.failed", id="batch_1")
    deliveries = workspace.webhooks
    assert (
        deliveries.fan_out({"a": Wishes(every, 10), "b": Wishes(lambda e: e.type != "batch.failed", 10)}) == 2
    )
    assert deliveries.fan_out({"a": Wishes(every, 10)}) == 0
    first, second = deliveries.take("a", 60), deliveries.take("a", 60)
    assert first is not None
    assert second is not None
    assert [d.event.data["id"] for d in (first, second)] == ["gate-1", "batch_1"]
    assert deliveries.take("a", 60) is None
    assert deliveries.take("b", 60) is not None
    assert deliveries.take("b", 60) is None
    clock.pass_(61)  # the server died with both
    again = deliveries.take("a", 60)
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 2)


def test_what_ended_long_ago_is_forgotten_and_what_waits_is_not(
    workspace: Workspace, clock: ManualClock
) -> None:
    workspace.outbox.tell("gate.refused", id="gate-1")
    deliveries = workspace.webhooks
    deliveries.fan_out({"a": Wishes(every, 10), "b": Wishes(every, 10)})
    taken = deliveries.take("a", 60)
    assert taken is not None
    deliveries.update(taken.id, status="delivered")
    workspace.outbox.tell("gate.refused", id="gate-2")
    clock.pass_(timedelta(days=31).total_seconds())
    deliveries.prune(ended_for=timedelta(days=30), waiting_for=timedelta(days=7))
    assert [d.endpoint for d in deliveries.list()] == ["b"]
    assert workspace.outbox.list() == []
