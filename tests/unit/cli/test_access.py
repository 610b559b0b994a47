"""Projects, keys and the audit log from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures_cli import Tunery
from tests.unit.cli.test_main import ALL
from tests.unit.store import samples
from tunery.cli.changes import CHANGES
from tunery.core.errors import ConflictError
from tunery.pipeline.gateway.catch_up import entry_of
from tunery.registry.unused import free_unused
from tunery.store.journal import Journal
from tunery.store.workspace import Workspace

CHANGES_NOTHING_OF_OTHERS = """
    ci init|data card|data collect|data diff|data export|data fix|data inspect|data ls|data run|data score
    |data show|data synthesise|deploy ls|deploy status|doctor|evaluate benchmark|evaluate compare
    |evaluate judge|evaluate judge-check|evaluate ls|evaluate report|evaluate review export
    |evaluate review import|evaluate run|evaluate show|evaluate verify|feedback export|feedback ls
    |feedback show|import|jobs ls|jobs show|jobs status|keys ls|plan|registry card|registry compare
    |registry export|registry ls|registry parity|registry show|requests ls|requests show|run|runs ls|runs show
    |rescue fetch|rescue inventory|rescue recipe|rescue record|rescue run|rescue status
    |serve|train ls|train preflight|train rewind|train run|train show|train tune|verify|webhooks ls
    |webhooks show|webhooks test
    |evaluate resume|evaluate checkpoints|deploy export|status|batches ls
    |batches show|projects ls|audit ls|limits ls|limits show|usage|tokens|embed
"""
"""What reads, or makes what nobody is served: artifacts with ids of their own, files where it is typed."""


def test_every_command_is_written_down_or_changes_nothing_that_others_see() -> None:
    others = {" ".join(part.split()) for part in CHANGES_NOTHING_OF_OTHERS.split("|")}
    assert set(ALL) - others == set(CHANGES), "a new command: say in tunery/cli/changes.py what it changes"
    for typed, change in CHANGES.items():
        if change.parameter is not None:
            assert change.parameter in {parameter.name for parameter in ALL[typed].params}, typed


@pytest.fixture
def opened(home: Path) -> Workspace:
    return Workspace.open(home)


def test_a_key_is_made_for_a_project_with_a_role_and_an_end(tunery: Tunery, opened: Workspace) -> None:
    assert tunery("projects", "create", "acme", "--json").json["id"] == "acme"
    made = tunery(
        "keys", "create", "ann", "--project", "acme", "--role", "infer", "--expires", "90d", "--json"
    )
    key = opened.keys.verify(made.json["secret"])
    assert key is not None
    assert (key.project, key.role) == ("acme", "infer")
    assert key.expires_at is not None
    assert abs((key.expires_at - key.created_at).total_seconds() - 90 * 86_400) < 5
    assert "sha256" not in made.json
    assert tunery("keys", "create", "bob", "--json").json["project"] == "default"
    assert [k["name"] for k in tunery("keys", "ls", "--project", "acme", "--json").json] == ["ann"]
    assert [k["name"] for k in tunery("--project", "acme", "keys", "ls", "--json").json] == ["ann"]
    assert [k["name"] for k in tunery("keys", "ls", "--json").json] == ["bob", "ann"]
    assert {p["id"]: p["keys"] for p in tunery("projects", "ls", "--json").json} == {"default": 1, "acme": 1}
    # A key of another project is not there.
    assert tunery("keys", "revoke", key.id, "--project", "default").code == 3
    assert tunery("keys", "revoke", key.id).code == 0
    assert opened.keys.verify(made.json["secret"]) is None


@pytest.mark.parametrize("when", ["soon", "90", "1999-01-01", "99999999999d", ""])
def test_an_end_that_is_none_is_refused(tunery: Tunery, opened: Workspace, when: str) -> None:
    made = tunery("keys", "create", "ann", "--expires", when, "--json")
    assert made.code == 2
    assert opened.keys.list() == []


def test_an_unknown_project_is_refused_and_named(tunery: Tunery, opened: Workspace) -> None:
    tunery("projects", "create", "acme")
    refused = tunery("keys", "create", "ann", "--project", "acne")
    assert refused.code == 3
    assert "did you mean 'acme'" in refused.err
    assert tunery("projects", "create", "acme").code == 4
    assert tunery("projects", "create", "../x").code == 2
    assert opened.keys.list() == []


def test_changes_are_written_down_with_whose_they_are(tunery: Tunery, opened: Workspace) -> None:
    tunery("projects", "create", "acme")
    for _ in range(2):
        opened.of("acme").models.register(samples.version("bot"))
    secret = tunery("keys", "create", "ann", "--project", "acme").out.strip()
    assert tunery("registry", "promote", "bot@2").code == 0
    assert tunery("registry", "promote", "bot@9").code == 3
    assert tunery("registry", "share", "bot", "--with", "default").code == 0
    records = tunery("audit", "ls", "--json").json
    assert [(r["action"], r["object"], r["outcome"], r["project"]) for r in records] == [
        ("model.share", "bot", "done", "acme"),
        ("model.promote", "bot@9", "not_found", "acme"),
        ("model.promote", "bot@2", "done", "acme"),
        ("key.create", opened.keys.list()[0].id, "done", "acme"),
        ("project.create", "acme", "done", ""),
    ]
    assert {r["actor"] for r in records} == {"operator"}
    listed = tunery("audit", "ls", "--project", "acme", "--since", "2020-01-01", "--json")
    assert len(listed.json) == 4
    assert tunery("audit", "ls", "--since", "2999-01-01", "--json").json == []
    assert secret not in listed.out
    # Who may ask a model may not move it.
    moved = tunery("--project", "default", "registry", "promote", "bot@1")
    assert moved.code == 2
    assert "belongs to another project" in moved.err


def test_a_dead_servers_records_keep_their_project_whoever_stores_them(
    tunery: Tunery, opened: Workspace
) -> None:
    tunery("projects", "create", "acme")
    left = Journal.create(opened.journals, "journal-1", about=opened.database_label, max_bytes=2**24)
    left.append([entry_of(samples.request("chatcmpl-1"))], sync=False)
    left.close()
    assert tunery("requests", "ls", "--project", "acme", "--json").json == []
    assert opened.requests.get("chatcmpl-1").project == "default"


def test_cleaning_up_looks_at_all_projects_from_one_of_them_too(opened: Workspace) -> None:
    view = opened.of("acme")
    assert view.whole is opened
    assert opened.whole is opened
    opened.jobs.create(samples.job("ftjob-1"))
    with pytest.raises(ConflictError, match="ftjob-1 is queued"):
        free_unused(view)


def test_a_model_moves_to_another_project(tunery: Tunery, opened: Workspace) -> None:
    tunery("projects", "create", "acme")
    opened.models.register(samples.version("bot"))
    assert tunery("registry", "move", "bot", "--to", "acme").code == 0
    assert [v["name"] for v in tunery("registry", "ls", "--project", "acme", "--json").json] == ["bot"]
    assert tunery("registry", "ls", "--project", "default", "--json").json == []
    assert tunery("registry", "unshare", "bot", "--with", "acme").code == 3
