"""Torn and foreign rows: named in words with what mends them, and no reason to hide the others."""

from __future__ import annotations

import json
import logging
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.store import samples
from tunery.core.errors import ConfigError, DamagedRowError, TuneryError
from tunery.store.workspace import Workspace


def three_jobs(workspace: Workspace) -> None:
    for number in range(3):
        workspace.jobs.add(samples.job(f"ftjob-{number}"))


def spoil(workspace: Workspace, sql: str, **values: Any) -> None:
    with workspace.database.transaction() as transaction:
        transaction.run(sql, values)


def without(field: str) -> str:
    document = json.loads(samples.job().model_dump_json())
    return json.dumps({k: v for k, v in document.items() if k != field})


SPOILT = {
    "no JSON": ("document", '{"recipe": {', "document: no JSON"),
    "empty": ("document", "", "document: no JSON"),
    "no object": ("document", "[1, 2]", "a JSON object is expected"),
    "null": ("document", "null", "a JSON object is expected"),
    "a key is missing": ("document", without("recipe"), "recipe: Field required"),
    "a type is wrong": ("document", '{"kind": "run", "recipe": 5, "request": {}}', "recipe: "),
    "an unknown kind": ("document", '{"kind": "walk", "recipe": {}, "request": {}}', "kind: "),
    "an unknown status": ("status", "banana", "status: Input should be"),
    "no time": ("created_at", "yesterday", "created_at: "),
    "a time without a zone": ("created_at", "2026-01-01", "created_at: "),
    "too deep": ("document", '{"recipe": ' + "[" * 20_000 + "]" * 20_000 + "}", "damaged"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_row_is_named_and_hides_none_of_the_others(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    column, value, says = SPOILT[how]
    server = workspace.database.driver.dialect == "postgresql"
    if server and (value in ("", '{"recipe": {') or column == "created_at" or how == "too deep"):
        pytest.skip("the server refuses it by itself")
    three_jobs(workspace)
    spoil(workspace, f"UPDATE jobs SET {column} = :value WHERE id = 'ftjob-1'", value=value)
    with caplog.at_level(logging.WARNING):
        assert [job.id for job in workspace.jobs.list()] == ["ftjob-2", "ftjob-0"]
        assert [job.id for job in workspace.jobs.every()] == ["ftjob-2", "ftjob-0"]
        first = workspace.jobs.page(limit=1)
        assert ([job.id for job in first.items], first.has_more) == (["ftjob-2"], True)
        second = workspace.jobs.page(after="ftjob-2", limit=1)
        assert ([job.id for job in second.items], second.has_more) == (["ftjob-0"], False)
        assert [j.id for j in workspace.jobs.page(after="ftjob-1", limit=1).items] == ["ftjob-0"]
    (row,) = workspace.database.rows("SELECT seq FROM jobs WHERE id = 'ftjob-1'")
    assert f"table jobs, row {row['seq']} (ftjob-1) is damaged" in caplog.text
    with pytest.raises(DamagedRowError) as caught:
        workspace.jobs.get("ftjob-1")
    assert says in caught.value.message
    assert workspace.database.driver.label in caught.value.message
    assert f"WHERE seq = {row['seq']}" in (caught.value.hint or "")
    # The queue goes on without it, and it can be taken out.
    for number in (0, 2):
        job = workspace.jobs.claim(f"w{number}", 60, f"gpu-{number}")
        assert job is not None
        assert job.id == f"ftjob-{number}"
    assert workspace.jobs.claim("w9", 60, "gpu-9") is None
    workspace.jobs.delete("ftjob-1")
    assert workspace.jobs.find("ftjob-1") is None


def test_bytes_that_are_no_text_hide_no_other_row(workspace: Workspace) -> None:
    if workspace.database.driver.dialect != "sqlite":
        pytest.skip("a server checks texts when they come")
    three_jobs(workspace)
    for column in ("document", "status", "id"):
        spoil(workspace, f"UPDATE jobs SET {column} = CAST(X'7BFF80' AS TEXT) WHERE seq = 2")
        assert [job.id for job in workspace.jobs.list()] == ["ftjob-2", "ftjob-0"]


def test_the_command_in_the_hint_takes_the_row_out(workspace: Workspace) -> None:
    if workspace.database.driver.dialect != "sqlite":
        pytest.skip("psql is not everywhere")
    three_jobs(workspace)
    spoil(workspace, "UPDATE jobs SET document = '{' WHERE id = 'ftjob-1'")
    with pytest.raises(DamagedRowError) as caught:
        workspace.jobs.get("ftjob-1")
    statements = (caught.value.hint or "").split('"')[1]
    with sqlite3.connect(workspace.database.driver.label) as connection:
        connection.executescript(statements)
    connection.close()
    assert [job.id for job in workspace.jobs.list()] == ["ftjob-2", "ftjob-0"]


def readers(workspace: Workspace) -> list[Callable[[], Any]]:
    """Return a call for everything that commands and routes read."""
    return [
        workspace.jobs.list,
        workspace.jobs.counts,
        lambda: workspace.jobs.get("ftjob-1"),
        lambda: workspace.jobs.events("ftjob-0"),
        lambda: workspace.jobs.claim("w1", 60),
        lambda: workspace.jobs.request_cancel("ftjob-2"),
        workspace.runs.list,
        workspace.adapters.list,
        workspace.datasets.list,
        workspace.evaluations.list,
        workspace.gates.list,
        workspace.models.list,
        workspace.models.names,
        lambda: workspace.models.aliases("support-bot"),
        lambda: workspace.models.moves("support-bot"),
        lambda: workspace.models.set_alias("support-bot", "champion", 1, actor="x", reason="x"),
        lambda: workspace.models.delete("support-bot", 1),
        workspace.keys.list,
        lambda: workspace.keys.verify("tk-0000000000"),
        workspace.rollouts.list,
        workspace.requests.list,
        lambda: workspace.requests.tallies("rollout-1"),
        workspace.feedback.list,
        workspace.files.list,
    ]


def filled(home: Path) -> None:
    workspace = Workspace.open(home, database_url=f"sqlite:///{home}/tunery.db")
    three_jobs(workspace)
    for number in range(30):
        workspace.jobs.add_event("ftjob-0", f"line {number}")
    workspace.runs.add(samples.run())
    workspace.adapters.add(samples.adapter())
    workspace.datasets.add(samples.dataset())
    workspace.evaluations.add(samples.evaluation())
    workspace.gates.add(samples.gate())
    for number in range(2):
        workspace.models.register(samples.version(run_id=f"run-{number}"))
    workspace.models.set_alias("support-bot", "champion", 2, actor="x", reason="x")
    workspace.keys.create("me")
    workspace.rollouts.add(samples.rollout())
    workspace.requests.add(samples.request())
    workspace.feedback.add(samples.feedback())
    workspace.files.add(samples.stored_file())
    with workspace.database.transaction() as transaction:
        transaction.run("DELETE FROM job_events WHERE seq > 25")
    workspace.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    workspace.close()


@pytest.mark.parametrize("seed", range(4))
def test_bytes_flipped_anywhere_in_the_file_end_in_words(tmp_path: Path, seed: int) -> None:
    filled(tmp_path / "home")
    whole = (tmp_path / "home" / "tunery.db").read_bytes()
    random_ = random.Random(seed)
    refused = 0
    for turn in range(40):
        home = tmp_path / f"turn-{turn}"
        home.mkdir()
        spoilt = bytearray(whole)
        kind = turn % 4
        for _ in range((1, 20, 200, 0)[kind]):
            spoilt[random_.randrange(len(spoilt))] ^= 1 << random_.randrange(8)
        if kind == 3:
            page = random_.randrange(len(spoilt) // 4096) * 4096
            spoilt[page : page + 4096] = random_.choice((bytes(4096), random_.randbytes(4096)))
        (home / "tunery.db").write_bytes(spoilt)
        try:
            workspace = Workspace.open(home, database_url=f"sqlite:///{home}/tunery.db")
        except TuneryError:
            refused += 1
            continue
        for read in readers(workspace):
            try:
                read()
            except TuneryError:
                refused += 1
        workspace.close()
        shutil.rmtree(home)
    assert refused > 10


def test_a_file_that_is_no_database_says_what_saves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "tunery.db").write_bytes(b"nothing of the kind " * 500)
    with pytest.raises(ConfigError, match="not a readable SQLite database") as caught:
        Workspace.open(tmp_path, database_url=f"sqlite:///{tmp_path}/tunery.db")
    assert ".recover" in (caught.value.hint or "")
