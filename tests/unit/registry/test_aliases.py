"""Promote and roll back: refused by the gate unless a person says so, and always with a way back."""

from __future__ import annotations

import pytest

from tests.unit.store import samples
from tunery.api.routes.models import model_object
from tunery.core.errors import ConfigError, ConflictError, GateFailed, NotFoundError
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.names import served_models
from tunery.registry.aliases import promote, rollback
from tunery.registry.versions import override_gate, resolve
from tunery.store.workspace import Workspace


@pytest.fixture
def three_versions(workspace: Workspace) -> Workspace:
    """Versions 1 and 2 passed their gate, version 3 was refused."""
    workspace.gates.add(samples.gate("gate-good"))
    workspace.gates.add(samples.gate("gate-bad", passed=False))
    for gate_id in ("gate-good", "gate-good", "gate-bad"):
        passed = gate_id == "gate-good"
        workspace.models.register(samples.version(gate_id=gate_id, gate_passed=passed))
    return workspace


def test_rollback_restores_the_previous_champion(three_versions: Workspace) -> None:
    promote(three_versions, "support-bot@1", actor="ann", reason="first")
    move = promote(three_versions, "support-bot@2", actor="ann", reason="better by 4 points")
    assert (move.version, move.previous, move.rollback) == (2, 1, False)
    back = rollback(three_versions, "support-bot", actor="bob", reason="complaints")
    assert (back.version, back.previous, back.actor, back.reason) == (1, 2, "bob", "complaints")
    assert back.rollback
    assert resolve(three_versions, "support-bot@champion").version == 1


def test_rollback_without_an_earlier_champion_is_a_conflict(three_versions: Workspace) -> None:
    with pytest.raises(ConflictError, match="has no champion to roll back"):
        rollback(three_versions, "support-bot", actor="bob", reason="x")
    promote(three_versions, "support-bot@1", actor="ann", reason="first")
    with pytest.raises(ConflictError, match="no earlier version"):
        rollback(three_versions, "support-bot", actor="bob", reason="x")
    assert resolve(three_versions, "support-bot@champion").version == 1


def test_rollback_of_an_unknown_model_names_the_nearest(three_versions: Workspace) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'support-bot'"):
        rollback(three_versions, "support-bto", actor="bob", reason="x")


def test_a_version_that_the_gate_refused_is_not_promoted(three_versions: Workspace) -> None:
    with pytest.raises(GateFailed, match=r"refused support-bot@3.*0\.7 asked") as caught:
        promote(three_versions, "support-bot@3", actor="ann", reason="I like it")
    assert caught.value.exit_code == 5
    assert three_versions.models.aliases("support-bot") == {}


def test_an_overridden_gate_is_written_into_version_and_move(three_versions: Workspace) -> None:
    version = override_gate(three_versions, "support-bot@3", by="Ann Chu", reason="a demo for one day")
    assert resolve(three_versions, "support-bot@3") == version
    assert [(o.by, o.reason) for o in version.overrides] == [("Ann Chu", "a demo for one day")]
    assert version.gate_passed is False
    move = promote(three_versions, "support-bot@3", actor="ann", reason="I like it")
    assert move.version == 3
    assert move.reason == "I like it (gate overridden by Ann Chu: exact match is 0.9, 0.7 asked.)"
    assert three_versions.models.moves("support-bot") == [move]


def test_a_gate_that_passed_cannot_be_overridden(three_versions: Workspace) -> None:
    with pytest.raises(ConflictError, match="nothing to override"):
        override_gate(three_versions, "support-bot@1", by="ann", reason="first")


@pytest.mark.parametrize(("by", "reason"), [(None, None), ("", "x"), ("ann", None), ("ann", "  ")])
def test_overriding_needs_a_name_and_a_reason(
    three_versions: Workspace, by: str | None, reason: str | None
) -> None:
    with pytest.raises(ConfigError, match="who does it and why; missing: --"):
        override_gate(three_versions, "support-bot@3", by=by, reason=reason)
    assert resolve(three_versions, "support-bot@3").overrides == ()


def test_promoting_the_champion_again_moves_nothing(three_versions: Workspace) -> None:
    first = promote(three_versions, "support-bot@1", actor="ann", reason="first")
    assert promote(three_versions, "support-bot@champion", actor="bob", reason="again") == first
    assert three_versions.models.moves("support-bot") == [first]


def test_a_bare_name_does_not_say_what_to_promote(three_versions: Workspace) -> None:
    with pytest.raises(ConfigError, match="say which version"):
        promote(three_versions, "support-bot", actor="ann", reason="x")


def test_the_challenger_is_promoted_by_its_alias(three_versions: Workspace) -> None:
    three_versions.models.set_alias("support-bot", "challenger", 2, actor="ann", reason="canary")
    assert promote(three_versions, "support-bot@challenger", actor="canary", reason="held").version == 2


def test_a_served_model_whose_gate_was_overridden_says_so(three_versions: Workspace) -> None:
    base = BaseModelInfo(name="tiny", sha256="0" * 64, path="/nowhere", parameters=1)
    override_gate(three_versions, "support-bot@3", by="ann", reason="a demo")
    promote(three_versions, "support-bot@3", actor="ann", reason="x")
    listed = {m.id: model_object(m).get("gate_overridden") for m in served_models(three_versions, base)}
    told = {"support-bot", "support-bot@3", "support-bot@champion"}
    assert {name for name, overridden in listed.items() if overridden} == told
    assert {"tiny", "support-bot@1"} <= listed.keys()
