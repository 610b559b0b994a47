"""Model versions and aliases: numbers given once, moves recorded, and the way back."""

from __future__ import annotations

import pytest

from tests.unit.store import samples
from tests.unit.store.at_once import at_once
from tests.unit.store.conftest import ManualClock
from tunery.core.errors import ConfigError, ConflictError, NotFoundError
from tunery.core.registry import AliasMove
from tunery.store.workspace import Workspace


def move(workspace: Workspace, number: int, alias: str = "champion") -> AliasMove:
    return workspace.models.set_alias("support-bot", alias, number, actor="ann", reason=f"to {number}")


def back(workspace: Workspace) -> int:
    now = workspace.models.aliases("support-bot")["champion"]
    move = workspace.models.restore_alias("support-bot", "champion", current=now, actor="bob", reason="worse")
    assert move.rollback
    assert move.previous == now
    return move.version


def champion(workspace: Workspace) -> int:
    return workspace.models.aliases("support-bot")["champion"]


def test_versions_are_numbered_within_their_name(workspace: Workspace) -> None:
    numbers = [
        workspace.models.register(samples.version(name)).ref for name in ("a-bot", "b-bot", "a-bot", "a-bot")
    ]
    assert numbers == ["a-bot@1", "b-bot@1", "a-bot@2", "a-bot@3"]
    assert workspace.models.names() == ["a-bot", "b-bot"]
    assert [v.ref for v in workspace.models.list("a-bot")] == ["a-bot@3", "a-bot@2", "a-bot@1"]
    assert len(workspace.models.list()) == 4
    assert workspace.models.get("a-bot", 2) == samples.version("a-bot", version=2)
    assert workspace.models.find("a-bot", 4) is None


def test_many_threads_never_get_the_same_number(workspace: Workspace) -> None:
    for turn in range(1, 5):
        registered = at_once(workspace, 8, lambda _: workspace.models.register(samples.version()))
        numbers = sorted(version.version for version in registered)
        assert numbers == list(range(8 * turn - 7, 8 * turn + 1))


def test_the_number_of_a_deleted_version_is_not_given_again(workspace: Workspace) -> None:
    workspace.models.register(samples.version())
    workspace.models.register(samples.version())
    workspace.models.delete("support-bot", 2)
    assert workspace.models.register(samples.version()).version == 3


def test_once_registers_an_adapter_of_a_run_once_even_from_many_threads(workspace: Workspace) -> None:
    registered = at_once(workspace, 8, lambda _: workspace.models.register(samples.version(), once=True))
    assert {version.version for version in registered} == {1}
    assert workspace.models.register(samples.version(adapter_id="adapter-2"), once=True).version == 2


def test_a_name_that_could_be_a_path_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="not usable"):
        workspace.models.register(samples.version("../etc"))


def test_every_move_is_recorded_with_who_when_and_why(workspace: Workspace, clock: ManualClock) -> None:
    workspace.models.register(samples.version())
    workspace.models.register(samples.version())
    first = move(workspace, 1)
    clock.pass_(60)
    second = move(workspace, 2)
    assert workspace.models.moves("support-bot") == [first, second]
    assert (first.previous, second.previous) == (None, 1)
    assert (second.actor, second.reason, second.at) == ("ann", "to 2", clock.now())
    assert champion(workspace) == 2


def test_setting_an_alias_where_it_points_is_no_move(workspace: Workspace) -> None:
    workspace.models.register(samples.version())
    first = move(workspace, 1)
    assert move(workspace, 1) == first
    assert workspace.models.moves("support-bot") == [first]


def test_an_alias_cannot_point_at_a_version_that_is_not_there(workspace: Workspace) -> None:
    workspace.models.register(samples.version())
    with pytest.raises(NotFoundError, match="did you mean 'support-bot@1'"):
        move(workspace, 2)
    assert workspace.models.aliases("support-bot") == {}


def test_a_version_that_an_alias_points_at_is_not_deleted(workspace: Workspace) -> None:
    for _ in range(3):
        workspace.models.register(samples.version())
    move(workspace, 1)
    move(workspace, 2)
    with pytest.raises(ConflictError, match="support-bot@2 is champion"):
        workspace.models.delete("support-bot", 2)
    workspace.models.delete("support-bot", 1)
    assert [v.version for v in workspace.models.list()] == [3, 2]
    with pytest.raises(NotFoundError):
        workspace.models.delete("support-bot", 1)


def test_the_only_version_of_a_name_takes_its_aliases_along(workspace: Workspace) -> None:
    workspace.models.register(samples.version())
    move(workspace, 1)
    workspace.models.set_alias("support-bot", "stable", 1, actor="ann", reason="it is")
    workspace.models.delete("support-bot", 1, actor="ben", reason="no more")
    assert workspace.models.list() == []
    assert workspace.models.names() == []
    assert workspace.models.aliases("support-bot") == {}
    gone = [m for m in workspace.models.moves("support-bot") if m.version is None]
    assert [(m.alias, m.previous, m.actor, m.reason) for m in gone] == [
        ("champion", 1, "ben", "no more"),
        ("stable", 1, "ben", "no more"),
    ]
    again = workspace.models.register(samples.version())
    assert again.version == 2
    assert move(workspace, 2).previous is None
    with pytest.raises(ConflictError, match=r"no earlier version.*support-bot@1 was deleted"):
        workspace.models.restore_alias("support-bot", "champion", current=2, actor="ann", reason="back")


def test_an_alias_is_taken_away_and_can_come_back(workspace: Workspace) -> None:
    for _ in range(2):
        workspace.models.register(samples.version())
    move(workspace, 1)
    move(workspace, 2)
    gone = workspace.models.remove_alias("support-bot", "champion", actor="ann", reason="pause")
    assert (gone.version, gone.previous) == (None, 2)
    with pytest.raises(NotFoundError):
        workspace.models.remove_alias("support-bot", "champion", actor="ann", reason="pause")
    workspace.models.delete("support-bot", 2)
    assert move(workspace, 1).previous is None


def test_the_note_of_who_challenged_last_holds_no_version(workspace: Workspace) -> None:
    for _ in range(2):
        workspace.models.register(samples.version())
    move(workspace, 1)
    workspace.models.set_alias("support-bot", "challenger", 2, actor="ann", reason="canary")
    workspace.models.delete("support-bot", 2)
    assert workspace.models.aliases("support-bot") == {"champion": 1}


def test_a_champion_that_a_running_job_compares_with_stays_until_it_ends(workspace: Workspace) -> None:
    workspace.models.register(samples.version())
    move(workspace, 1)
    job = samples.job(status="running", recipe={"name": "support-bot"})
    workspace.jobs.add(job)
    for refused in (
        lambda: workspace.models.delete("support-bot", 1),
        lambda: workspace.models.remove_alias("support-bot", "champion", actor="ann", reason="no"),
    ):
        with pytest.raises(ConflictError, match=f"job {job.id} is running") as caught:
            refused()
        assert job.id in (caught.value.hint or "")
    workspace.jobs.update(job.id, status="cancelled")
    workspace.models.delete("support-bot", 1)


def test_a_version_that_gets_traffic_is_not_deleted(workspace: Workspace) -> None:
    for _ in range(2):
        workspace.models.register(samples.version())
    workspace.rollouts.add(samples.rollout(champion=1, challenger=2))
    with pytest.raises(ConflictError, match="gets traffic from rollout-1"):
        workspace.models.delete("support-bot", 2)
    workspace.rollouts.finish("rollout-1", "cancelled", "enough", "ann")
    workspace.models.delete("support-bot", 2)


def test_the_way_back_follows_the_moves_and_ends(workspace: Workspace) -> None:
    for _ in range(3):
        workspace.models.register(samples.version())
    for number in (1, 2, 3):
        move(workspace, number)
    assert [back(workspace), back(workspace)] == [2, 1]
    with pytest.raises(ConflictError, match="no earlier version"):
        back(workspace)
    assert champion(workspace) == 1


def test_a_move_after_a_rollback_can_be_taken_back_too(workspace: Workspace) -> None:
    for _ in range(3):
        workspace.models.register(samples.version())
    move(workspace, 1)
    move(workspace, 2)
    assert back(workspace) == 1
    move(workspace, 3)
    # 2 was taken back already: before 3 the champion was 1.
    assert back(workspace) == 1


def test_promoting_an_old_version_again_can_be_taken_back(workspace: Workspace) -> None:
    for _ in range(2):
        workspace.models.register(samples.version())
    for number in (1, 2, 1):
        move(workspace, number)
    assert [back(workspace), back(workspace)] == [2, 1]


def test_the_way_back_passes_over_a_deleted_version(workspace: Workspace) -> None:
    for _ in range(3):
        workspace.models.register(samples.version())
    for number in (1, 2, 3):
        move(workspace, number)
    workspace.models.delete("support-bot", 2)
    assert back(workspace) == 1


def test_other_aliases_have_a_way_of_their_own(workspace: Workspace) -> None:
    for _ in range(3):
        workspace.models.register(samples.version())
    move(workspace, 1)
    move(workspace, 3, alias="challenger")
    move(workspace, 2)
    assert back(workspace) == 1
    assert workspace.models.aliases("support-bot") == {"challenger": 3, "champion": 1}


def test_of_two_who_take_back_the_same_move_one_does(workspace: Workspace) -> None:
    for number in (1, 2, 3):
        workspace.models.register(samples.version())
        move(workspace, number)

    def take_back(actor: str) -> int | None:
        try:
            return workspace.models.restore_alias(
                "support-bot", "champion", current=3, actor=actor, reason="worse"
            ).version
        except ConflictError:
            return None

    results = at_once(workspace, 8, lambda number: take_back(f"actor {number}"))
    assert sorted(results, key=str) == [2, *[None] * 7]
    assert champion(workspace) == 2


def test_threads_that_move_an_alias_leave_an_unbroken_chain(workspace: Workspace) -> None:
    for _ in range(4):
        workspace.models.register(samples.version())
    for _ in range(3):
        at_once(workspace, 8, lambda number: move(workspace, number % 4 + 1))
    moves = workspace.models.moves("support-bot")
    assert [m.previous for m in moves] == [None, *(m.version for m in moves[:-1])]
    assert champion(workspace) == moves[-1].version
