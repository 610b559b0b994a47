"""Rollouts: one at a time for a name, ended once."""

from __future__ import annotations

import pytest

from tests.unit.store import samples
from tests.unit.store.at_once import at_once
from tests.unit.store.conftest import ManualClock
from tunery.core.errors import ConflictError, NotFoundError
from tunery.core.rollout import RolloutStatus
from tunery.store.workspace import Workspace


def test_one_rollout_runs_at_a_time_for_a_name(workspace: Workspace) -> None:
    first = workspace.rollouts.add(samples.rollout())
    other = workspace.rollouts.add(samples.rollout("rollout-2", name="other-bot"))
    with pytest.raises(ConflictError, match="rollout-1 already moves traffic of support-bot"):
        workspace.rollouts.add(samples.rollout("rollout-3"))
    assert workspace.rollouts.running("support-bot") == first
    assert workspace.rollouts.running("other-bot") == other
    assert workspace.rollouts.running("nobody") is None
    assert workspace.rollouts.add(samples.rollout()) == first


def test_the_next_one_may_run_when_the_first_has_ended(workspace: Workspace, clock: ManualClock) -> None:
    workspace.rollouts.add(samples.rollout())
    clock.pass_(5)
    ended = workspace.rollouts.finish("rollout-1", "rolled_back", "errors 9 % against 1 %", "canary")
    assert (ended.status, ended.reason, ended.actor) == ("rolled_back", "errors 9 % against 1 %", "canary")
    assert ended.ended_at == clock.now()
    assert workspace.rollouts.running("support-bot") is None
    second = workspace.rollouts.add(samples.rollout("rollout-2"))
    assert workspace.rollouts.list(name="support-bot") == [second, ended]
    assert workspace.rollouts.list(name="other-bot") == []


def test_a_rollout_does_not_end_by_running(workspace: Workspace) -> None:
    workspace.rollouts.add(samples.rollout())
    with pytest.raises(ValueError, match="running"):
        workspace.rollouts.finish("rollout-1", "running", "", "cli")
    with pytest.raises(NotFoundError):
        workspace.rollouts.finish("rollout-9", "cancelled", "", "cli")


def test_of_many_who_end_a_rollout_one_does_and_all_see_its_reason(workspace: Workspace) -> None:
    for turn in range(5):
        id = f"rollout-{turn}"
        workspace.rollouts.add(samples.rollout(id))

        def end(number: int, id: str = id) -> tuple[str, str | None]:
            status: RolloutStatus = "promoted" if number % 2 else "rolled_back"
            ended = workspace.rollouts.finish(id, status, f"reason {number}", f"judge {number}")
            return ended.status, ended.reason

        stored = set(at_once(workspace, 8, end)) | {end(99)}
        assert len(stored) == 1


def test_of_many_who_start_a_rollout_one_does(workspace: Workspace) -> None:
    for turn in range(5):

        def start(number: int, turn: int = turn) -> str | None:
            try:
                return workspace.rollouts.add(samples.rollout(f"rollout-{turn}-{number}")).id
            except ConflictError:
                return None

        (started,) = [id for id in at_once(workspace, 8, start) if id]
        workspace.rollouts.finish(started, "cancelled", "next turn", "cli")
    assert len(workspace.rollouts.list()) == 5
