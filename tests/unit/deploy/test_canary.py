"""Canaries on a real workspace: bad ones go back by themselves, good ones become champion, each once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunery.core.errors import ConfigError, ConflictError, GateFailed, NotFoundError
from tunery.deploy import canary
from tunery.deploy.config import CanaryConfig
from tunery.registry.versions import override_gate

RULE = CanaryConfig(percent=20, horizon_requests=60, max_latency_p95_ratio=3)


def champion(workspace):
    return workspace.models.aliases("bot")["champion"]


def test_a_bad_canary_is_rolled_back_by_itself_with_the_numbers_as_reason(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    serve(rollout, "champion", 200, errors=2)
    serve(rollout, "challenger", 20, errors=0)
    assert canary.step(bots, rollout.id).status == "running"
    serve(rollout, "challenger", 40, errors=12)
    ended = canary.step(bots, rollout.id)
    assert ended.status == "rolled_back"
    assert "error rate 20.0 % (12 of 60) against the champion's 1.0 % (2 of 200)" in ended.reason
    assert "2.0 points are tolerated" in ended.reason
    assert ended.actor == "canary"
    assert champion(bots) == 1
    assert [m.version for m in bots.models.moves("bot") if m.alias == "champion"] == [1]


def test_a_good_canary_is_promoted_at_the_horizon_and_not_before(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    serve(rollout, "champion", 200, errors=2)
    serve(rollout, "challenger", 59, errors=1)
    assert canary.step(bots, rollout.id).status == "running"
    assert champion(bots) == 1
    serve(rollout, "challenger", 1)
    ended = canary.step(bots, rollout.id)
    assert ended.status == "promoted"
    assert "60 of 60 challenger requests" in ended.reason
    assert champion(bots) == 2
    move = bots.models.moves("bot")[-1]
    assert (move.actor, move.previous) == ("canary", 1)
    assert rollout.id in move.reason


def test_every_way_of_being_worse_is_noticed(bots, serve):
    for kind, guard in (("errors", "error rate"), ("invalid", "invalid format"), ("disliked", "dislikes")):
        rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
        serve(rollout, "champion", 100, liked=60)
        serve(rollout, "challenger", 50, **{kind: 40})
        ended = canary.step(bots, rollout.id)
        assert ended.status == "rolled_back", kind
        assert ended.reason.startswith(guard)


def test_a_guard_that_is_switched_off_does_not_object(bots, serve):
    rule = CanaryConfig(**{**RULE.model_dump(), "max_format_invalid_increase": None})
    rollout = canary.start(bots, "bot@2", actor="ann", config=rule)
    serve(rollout, "champion", 100)
    serve(rollout, "challenger", 60, invalid=60)
    assert canary.step(bots, rollout.id).status == "promoted"


def test_two_processes_that_step_at_once_promote_once(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    serve(rollout, "champion", 100)
    serve(rollout, "challenger", 60)
    script = (
        "import sys; from pathlib import Path\n"
        "from tunery.deploy import canary\n"
        "from tunery.store.workspace import Workspace\n"
        "root, rollout = Path(sys.argv[1]), sys.argv[2]\n"
        "workspace = Workspace.open(root, database_url=f'sqlite:///{root / \"tunery.db\"}')\n"
        "workspace.rollouts.get(rollout)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(canary.step(workspace, rollout).status)\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(bots.root), rollout.id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout.readline().strip() == "ready"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert [racer.communicate()[0].strip() for racer in racers] == ["promoted"] * 3
    assert champion(bots) == 2
    assert [m.version for m in bots.models.moves("bot") if m.alias == "champion"] == [1, 2]


def test_a_promotion_that_died_before_the_alias_moved_is_completed_by_the_next_step(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    bots.rollouts.finish(rollout.id, "promoted", reason="ran its course", actor="canary")
    assert champion(bots) == 1
    canary.sweep(bots)
    assert champion(bots) == 2


def test_a_rollback_by_hand_after_a_promotion_stays(bots, serve, clock):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    serve(rollout, "champion", 100)
    serve(rollout, "challenger", 60)
    canary.step(bots, rollout.id)
    clock.pass_hours(1)
    bots.models.set_alias("bot", "champion", 1, actor="ann", reason="customers complain")
    canary.step(bots, rollout.id)
    canary.sweep(bots)
    assert champion(bots) == 1


def test_a_promotion_by_hand_ends_the_canary_as_promoted(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    bots.models.set_alias("bot", "champion", 2, actor="bea", reason="looks good")
    ended = canary.step(bots, rollout.id)
    assert ended.status == "promoted"
    assert "by bea" in ended.reason
    assert champion(bots) == 2


def test_a_canary_whose_champion_was_replaced_gives_way(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    bots.models.set_alias("bot", "champion", 3, actor="bea", reason="urgent")
    serve(rollout, "challenger", 60, errors=60)
    ended = canary.step(bots, rollout.id)
    assert ended.status == "cancelled"
    assert "the champion moved to bot@3 by bea" in ended.reason
    assert champion(bots) == 3


def test_a_horizon_in_hours_waits_for_the_clock_and_for_enough_requests(bots, serve, clock):
    rule = CanaryConfig(horizon_requests=None, horizon_hours=24, min_requests=20)
    rollout = canary.start(bots, "bot@2", actor="ann", config=rule)
    serve(rollout, "champion", 100)
    serve(rollout, "challenger", 10)
    clock.pass_hours(25)
    assert canary.judge(bots, rollout).action == "continue"
    assert "10 challenger requests of the 20" in canary.judge(bots, rollout).reason
    serve(rollout, "challenger", 10)
    assert canary.step(bots, rollout.id).status == "promoted"


def test_a_slow_challenger_is_held_at_the_horizon_but_never_rolled_back(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    serve(rollout, "champion", 100, latency_ms=100)
    serve(rollout, "challenger", 50, latency_ms=900)
    assert "held" not in canary.judge(bots, rollout).reason
    serve(rollout, "challenger", 20, latency_ms=900)
    judgement = canary.judge(bots, rollout)
    assert judgement.action == "continue"
    assert "900 ms is 9 times the champion's 100 ms" in judgement.reason


def test_on_horizon_hold_leaves_the_promotion_to_a_person(bots, serve):
    rule = CanaryConfig(**{**RULE.model_dump(), "on_horizon": "hold"})
    rollout = canary.start(bots, "bot@2", actor="ann", config=rule)
    serve(rollout, "champion", 100)
    serve(rollout, "challenger", 100)
    assert canary.step(bots, rollout.id).status == "running"
    assert "for a person" in canary.status(bots, "bot").judgement.reason


def test_starting_moves_the_challenger_alias_and_keeps_the_rule(bots):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE, percent=35)
    assert rollout.traffic_percent == 35
    assert CanaryConfig.model_validate(rollout.rule) == CanaryConfig(**{**RULE.model_dump(), "percent": 35})
    assert bots.models.aliases("bot") == {"champion": 1, "challenger": 2}
    assert canary.status(bots, "bot").rollout == rollout


def test_a_version_that_its_gate_refused_needs_an_override_that_is_written_down(bots):
    with pytest.raises(GateFailed, match="refused bot@3"):
        canary.start(bots, "bot@3", actor="ann")
    assert bots.rollouts.list() == []
    override_gate(bots, "bot@3", by="Ann", reason="a demo")
    canary.start(bots, "bot@3", actor="ann")
    assert "although the gate refused it; overridden by Ann" in bots.models.moves("bot")[-1].reason


def test_only_one_canary_of_a_name_runs_at_a_time(bots):
    canary.start(bots, "bot@2", actor="ann")
    with pytest.raises(ConflictError, match="one at a time"):
        canary.start(bots, "bot@2", actor="ann")
    canary.cancel(bots, "bot", actor="ann")
    canary.start(bots, "bot@challenger", actor="ann")


def test_what_cannot_be_challenged_is_refused(bots):
    with pytest.raises(ConflictError, match="champion already"):
        canary.start(bots, "bot@1", actor="ann")
    with pytest.raises(NotFoundError, match="bot@22"):
        canary.start(bots, "bot@22", actor="ann")
    with pytest.raises(NotFoundError, match="bto@2"):
        canary.start(bots, "bto@2", actor="ann")
    with pytest.raises(NotFoundError, match="bot@chalenger"):
        canary.start(bots, "bot@chalenger", actor="ann")
    with pytest.raises(ConflictError, match="which version"):
        canary.start(bots, "bot", actor="ann")
    with pytest.raises(ConfigError, match="percent"):
        canary.start(bots, "bot@2", actor="ann", percent=101)


def test_a_name_without_champion_has_nothing_to_challenge(workspace):
    from tests.unit.deploy.conftest import version

    workspace.models.register(version("new"))
    with pytest.raises(ConflictError, match="no champion"):
        canary.start(workspace, "new@1", actor="ann")


def test_cancelling_and_asking_without_a_canary_says_so(bots):
    with pytest.raises(ConflictError, match="no canary of bot is running"):
        canary.cancel(bots, "bot", actor="ann")
    with pytest.raises(NotFoundError, match="no canary named 'bot'"):
        canary.status(bots, "bot")
    rollout = canary.start(bots, "bot@2", actor="ann")
    ended = canary.cancel(bots, "bot", actor="ann", reason="wrong version")
    assert (ended.status, ended.reason) == ("cancelled", "wrong version")
    assert canary.step(bots, rollout.id) == ended
    assert canary.status(bots, "bot").rollout == ended


def test_sweeping_steps_every_name_and_reports_what_ended(bots, serve):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    assert canary.sweep(bots) == []
    serve(rollout, "champion", 100)
    serve(rollout, "challenger", 60, errors=40)
    assert [r.status for r in canary.sweep(bots)] == ["rolled_back"]
    assert canary.sweep(bots) == []


def test_a_promotion_that_comes_second_to_a_rollback_moves_nothing(bots, serve, monkeypatch):
    rollout = canary.start(bots, "bot@2", actor="ann", config=RULE)
    serve(rollout, "champion", 100)
    serve(rollout, "challenger", 60)
    judge = canary.judge

    def judge_while_another_process_rolls_back(workspace, rollout):
        judgement = judge(workspace, rollout)
        bots.rollouts.finish(rollout.id, "rolled_back", reason="errors came in", actor="canary")
        return judgement

    monkeypatch.setattr(canary, "judge", judge_while_another_process_rolls_back)
    ended = canary.step(bots, rollout.id)
    assert (ended.status, ended.reason) == ("rolled_back", "errors came in")
    assert champion(bots) == 1
