"""Rollouts: one at a time for a name, ended once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.store import samples
from tests.unit.store.conftest import ManualClock
from tunery.core.errors import ConflictError, NotFoundError
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
    assert workspace.rollouts.list("support-bot") == [second, ended]
    assert workspace.rollouts.list("other-bot") == []


def test_a_rollout_does_not_end_by_running(workspace: Workspace) -> None:
    workspace.rollouts.add(samples.rollout())
    with pytest.raises(ValueError, match="running"):
        workspace.rollouts.finish("rollout-1", "running", "", "cli")
    with pytest.raises(NotFoundError):
        workspace.rollouts.finish("rollout-9", "cancelled", "", "cli")


def test_of_many_who_end_a_rollout_one_does_and_all_see_its_reason(workspace: Workspace) -> None:
    workspace.rollouts.add(samples.rollout())

    def end(number: int) -> tuple[str, str | None]:
        status = "promoted" if number % 2 else "rolled_back"
        ended = workspace.rollouts.finish("rollout-1", status, f"reason {number}", f"judge {number}")
        return ended.status, ended.reason

    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(end, range(16)))
    assert len(seen) == 1
    stored = workspace.rollouts.get("rollout-1")
    assert seen == {(stored.status, stored.reason)}


def test_of_many_who_start_a_rollout_one_does(workspace: Workspace) -> None:
    def start(number: int) -> bool:
        try:
            workspace.rollouts.add(samples.rollout(f"rollout-{number}"))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(16))) == 1
    assert len(workspace.rollouts.list()) == 1
