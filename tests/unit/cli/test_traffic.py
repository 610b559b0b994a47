"""Registry, deploy, feedback and keys from the command line, on a workspace that has served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures_cli import Tunery
from tunery.store.workspace import Workspace

pytestmark = pytest.mark.usefixtures("bots")


def test_the_list_names_versions_aliases_and_gates(tunery: Tunery) -> None:
    versions = {v["ref"]: (v["aliases"], v["gate_passed"]) for v in tunery("registry", "ls", "--json").json}
    assert versions == {"bot@3": ([], False), "bot@2": ([], True), "bot@1": (["champion"], True)}
    assert [line.split()[0] for line in tunery("registry", "ls").out.splitlines()[2:]] == [
        "bot@3",
        "bot@2",
        "bot@1",
    ]
    assert tunery("registry", "ls", "--base", "other", "--json").json == []
    assert len(tunery("registry", "ls", "bot", "--limit", 1, "--json").json) == 1


def test_a_version_is_shown_with_its_chain(tunery: Tunery) -> None:
    shown = tunery("registry", "show", "bot@champion", "--json").json
    assert shown["model"]["version"] == 1
    assert [move["alias"] for move in shown["alias_moves"]] == ["champion"]
    text = tunery("registry", "show", "bot", "--verify").out
    assert "Name the [intent]." in text
    assert "✓ gate-1 has spoken." in text
    assert "✗ links of bot@1" in text


def test_promoting_and_rolling_back_moves_the_champion(tunery: Tunery, bots: Workspace) -> None:
    moved = tunery("registry", "promote", "bot@2", "--reason", "better", "--json").json
    assert (moved["previous"], moved["version"], moved["actor"], moved["reason"]) == (1, 2, "cli", "better")
    assert bots.models.aliases("bot")["champion"] == 2
    assert "bot@1 is champion of bot, before it bot@2" in tunery("deploy", "rollback", "bot").out
    assert bots.models.aliases("bot")["champion"] == 1


def test_a_refused_version_is_promoted_only_when_said_so(tunery: Tunery, bots: Workspace) -> None:
    assert tunery("deploy", "promote", "bot@3").code == 5
    assert bots.models.aliases("bot")["champion"] == 1
    assert (
        "missing: --by NAME and --reason TEXT" in tunery("deploy", "promote", "bot@3", "--override-gate").err
    )
    why = ("--by", "Ann Chu", "--reason", "a demo | for one day")
    moved = tunery("deploy", "promote", "bot@3", "--override-gate", *why, "--json").json
    assert "gate overridden by Ann Chu: gate-3 has spoken." in moved["reason"]
    said = "The gate's refusal was overridden by Ann Chu on"
    assert said in tunery("registry", "show", "bot@3").out
    assert "refused, overridden" in tunery("registry", "ls").out
    (listed,) = (v for v in tunery("registry", "ls", "--json").json if v["ref"] == "bot@3")
    assert listed["overrides"][0]["reason"] == "a demo | for one day"


def test_a_canary_runs_by_the_rule_of_its_recipe_as_changed(tunery: Tunery, bots: Workspace) -> None:
    started = tunery("deploy", "canary", "bot@2", "min_requests=5", "--json").json
    rule = started["rule"]
    assert (started["traffic_percent"], rule["horizon_requests"], rule["min_requests"]) == (7.0, 50, 5)
    status = tunery("deploy", "status", "bot", "--json").json
    assert status["rollout"]["id"] == started["id"]
    assert status["judgement"]["action"] == "continue"
    assert status["tallies"]["challenger"]["requests"] == 0
    assert "now: continue. 0 challenger requests" in tunery("deploy", "status", "bot").out
    assert tunery("deploy", "canary", "bot@2", "--percent", "20").code == 4
    assert tunery("deploy", "cancel", "bot", "--reason", "enough", "--json").json["status"] == "cancelled"
    again = tunery("deploy", "canary", "bot@2", "--percent", "20", "--json").json
    assert again["traffic_percent"] == 20.0
    assert [r["id"] for r in tunery("deploy", "ls", "bot", "--json").json] == [again["id"], started["id"]]
    assert "enough" in tunery("deploy", "ls").out


def test_an_unknown_canary_setting_is_refused_by_name(tunery: Tunery, bots: Workspace) -> None:
    called = tunery("deploy", "canary", "bot@2", "horizon_request=5")
    assert called.code == 2
    assert "did you mean 'horizon_requests'?" in called.err
    assert bots.rollouts.list() == []


def test_feedback_goes_from_a_request_to_a_row(tunery: Tunery, tmp_path: Path) -> None:
    given = tunery("feedback", "add", "chatcmpl-1", "--correction", "card delivery", "--json").json
    assert given["status"] == "pending"
    assert tunery("feedback", "show", given["id"], "--json").json["request"]["completion"] == "card arrival"
    assert "card delivery" in tunery("feedback", "ls", "--status", "pending").out
    assert tunery("feedback", "review", given["id"], "--accept", "--json").json[0]["status"] == "accepted"
    assert tunery("feedback", "review", given["id"], "--decline").code == 4
    exported = tunery("feedback", "export", tmp_path / "rows", "--json").json
    assert (tmp_path / "rows" / "examples.jsonl").is_file()
    # bot@1's dataset version is not stored here, so nothing can be shown not to be held out.
    assert exported["skipped"] == {"held_out_not_checkable": 1}


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--rating", "up", "--correction", "x"],
        ["--rating", "up", "--preferred", "x"],
    ],
)
def test_feedback_says_one_thing(options: list[str], tunery: Tunery, bots: Workspace) -> None:
    called = tunery("feedback", "add", "chatcmpl-1", *options)
    assert called.code == 2
    assert "say one thing" in called.err
    assert bots.feedback.list() == []


def test_a_preference_needs_one_answer_beside_the_served_one(tunery: Tunery) -> None:
    given = tunery("feedback", "add", "chatcmpl-1", "--preferred", "card delivery", "--json").json
    assert (given["correction"], given["rejected"]) == ("card delivery", "card arrival")
    thumb = tunery("feedback", "add", "chatcmpl-1", "--rating", "down", "--comment", "no", "--json").json
    assert (thumb["rating"], thumb["comment"]) == (-1, "no")


def test_a_key_is_shown_once_and_its_hash_never(tunery: Tunery, bots: Workspace) -> None:
    made = tunery("keys", "create", "someone", "--json").json
    assert bots.keys.verify(made["secret"]) is not None
    listed = tunery("keys", "ls", "--json")
    assert made["secret"] not in listed.out
    assert "sha256" not in listed.out
    assert tunery("keys", "revoke", made["id"]).code == 0
    assert bots.keys.verify(made["secret"]) is None
    secret = tunery("keys", "create", "another").out.strip()
    assert bots.keys.verify(secret) is not None
