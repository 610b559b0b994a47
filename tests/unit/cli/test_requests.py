"""The log of served calls from the command line: read in pages, taken back for good."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.fixtures_cli import Tunery
from tests.unit.cli.conftest import AT
from tunery.core.example import Message
from tunery.core.rollout import Feedback, Rollout
from tunery.feedback.collect import GivenFeedback, record
from tunery.pipeline.gateway.catch_up import entry_of
from tunery.store import journal as journals
from tunery.store.journal import Journal
from tunery.store.workspace import Workspace


@pytest.fixture(autouse=True)
def calls(bots: Workspace) -> None:
    """Beside ``chatcmpl-1``: five of other days and models."""
    one = bots.requests.get("chatcmpl-1")
    for n in range(2, 7):
        said = Message(role="user", content=f"secret {n}")
        model = "bot@1" if n % 2 else "bot@2"
        bots.requests.add(
            one.with_(
                id=f"chatcmpl-{n}",
                created_at=AT + timedelta(days=n),
                model=model,
                messages=(said,),
                text="kept",
            )
        )


def test_calls_are_listed_in_pages_without_their_prompts(tunery: Tunery) -> None:
    first = tunery("requests", "ls", "--limit", 4, "--json").json
    assert [r["id"] for r in first] == [f"chatcmpl-{n}" for n in (6, 5, 4, 3)]
    assert all("messages" not in r and r["completion"] == "card arrival" for r in first)
    rest = tunery("requests", "ls", "--after", first[-1]["id"], "--json").json
    assert [r["id"] for r in rest] == ["chatcmpl-2", "chatcmpl-1"]
    assert [r["id"] for r in tunery("requests", "ls", "--model", "bot@2", "--json").json] == [
        f"chatcmpl-{n}" for n in (6, 4, 2)
    ]
    unknown = tunery("requests", "ls", "--after", "chatcmpl-99")
    assert unknown.code == 3
    assert "chatcmpl-6" not in unknown.err
    assert "secret 3" in tunery("requests", "show", "chatcmpl-3").out


def test_a_purge_needs_a_condition_and_a_yes(tunery: Tunery, bots: Workspace) -> None:
    assert tunery("requests", "purge", "--yes").code == 2
    asked = tunery("requests", "purge", "--model", "bot")
    assert asked.code == 2
    assert "this deletes 6 calls and the feedback on them for good" in asked.err
    assert len(bots.requests.list()) == 6


def test_a_purge_takes_calls_feedback_texts_and_lines_of_journals(tunery: Tunery, bots: Workspace) -> None:
    record(bots, "chatcmpl-3", GivenFeedback(kind="correction", correction="secret too"), author="ann")
    journal = Journal.create(bots.journals, "journal-1", about=bots.database_label)
    waits = bots.requests.get("chatcmpl-3")
    journal.append([entry_of(waits.with_(id=f"chatcmpl-{n}")) for n in (3, 33)], sync=False)
    texts = tunery("requests", "purge", "--id", "chatcmpl-4", "--texts-only", "--yes", "--json").json
    assert (texts["requests"], texts["texts"]) == (0, 1)
    assert bots.requests.get("chatcmpl-4").text == "removed"
    gone = tunery("requests", "purge", "--model", "bot@1", "--before", "2026-03-05", "--yes", "--json").json
    assert (gone["requests"], gone["texts"], gone["feedback"], gone["journalled"]) == (2, 2, 1, 2)
    assert {r.id for r in bots.requests.list()} == {f"chatcmpl-{n}" for n in (2, 4, 5, 6)}
    assert bots.feedback.list() == []
    journal.close()
    home = [p for p in bots.root.rglob("*") if p.is_file()]
    bots.close()
    tunery("requests", "ls")  # which stores what is left in journals
    assert not any(b"secret 3" in p.read_bytes() for p in home if p.exists())
    assert list(journals.abandoned(bots.journals, about=bots.database_label)) == []


def test_what_a_running_canary_is_judged_by_keeps_its_figures(tunery: Tunery, bots: Workspace) -> None:
    started = tunery("deploy", "canary", "bot@2", "--json").json
    rollout = bots.rollouts.get(started["id"])
    assert isinstance(rollout, Rollout)
    bots.requests.add(bots.requests.get("chatcmpl-1").with_(id="chatcmpl-7", rollout_id=rollout.id))
    refused = tunery("requests", "purge", "--id", "chatcmpl-7", "--yes")
    assert refused.code == 4
    assert rollout.id in refused.err
    assert tunery("requests", "purge", "--id", "chatcmpl-7", "--texts-only", "--yes").code == 0


def test_datasets_that_hold_a_purged_call_are_named(
    tunery: Tunery, bots: Workspace, tmp_path: Path, tiny_model: Path
) -> None:
    given = record(bots, "chatcmpl-3", GivenFeedback(kind="correction", correction="refund"), author="ann")
    assert isinstance(given, Feedback)
    bots.feedback.review(given.id, accepted=True, reviewer="ann")
    bots.models.register(bots.models.get("bot", 1))
    out = tmp_path / "traffic.jsonl"
    collected = tunery("data", "collect", "--out", out, "--without-consent", "--json")
    assert collected.code == 0, collected.err
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"name: bot\nbase: {tiny_model}\ngoal: {{metric: exact_match, target: 0.5}}\n"
        f"data: {{sources: [{{path: {out}}}], split: {{validation: 0, test: 0}}}}\n"
    )
    built = tunery("data", "run", recipe, "--json")
    assert built.code == 0, built.err
    dataset = bots.datasets.list()[0].id
    purged = tunery("requests", "purge", "--id", "chatcmpl-3", "--id", "chatcmpl-99", "--yes", "--json")
    assert purged.json["datasets"] == {dataset: 1}


def test_versions_and_aliases_are_taken_away(tunery: Tunery, bots: Workspace) -> None:
    refused = tunery("registry", "rm", "bot@1")
    assert refused.code == 4
    assert "tunery registry unalias bot@champion" in refused.err
    assert tunery("registry", "rm", "bot@3").code == 0
    assert "champion of bot was taken from bot@1" in tunery("registry", "unalias", "bot@champion").out
    assert tunery("registry", "rm", "bot@1", "--json").json["model_version"] == "bot@1"
    assert [v.ref for v in bots.models.list("bot")] == ["bot@2"]
    assert tunery("registry", "rm", "bot@1").code == 3
    assert tunery("registry", "unalias", "bot").code == 2
