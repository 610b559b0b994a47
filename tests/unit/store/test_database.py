"""Transactions: together or not at all, whatever happens in between."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.unit.store import samples
from tunery.core.errors import ResourceError
from tunery.store.database import Transaction
from tunery.store.workspace import Workspace


def test_a_block_that_raises_is_undone(workspace: Workspace) -> None:
    def fail_late() -> None:
        with workspace.database.transaction() as transaction:
            transaction.run("INSERT INTO model_names (name, last_version) VALUES ('x', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail_late()
    assert workspace.database.rows("SELECT * FROM model_names") == []


def test_a_pipeline_that_raises_is_undone_and_what_goes_wrong_in_it_is_told(workspace: Workspace) -> None:
    put = "INSERT INTO model_names (name, last_version) VALUES (:name, 1)"

    def fail_late(transaction: Transaction) -> None:
        transaction.run(put, {"name": "x"})
        raise KeyError

    def fail_in_the_server(transaction: Transaction) -> None:
        transaction.run(put, {"name": "x"})
        transaction.run(put, {"name": "x"})

    with pytest.raises(KeyError):
        workspace.database.atomically(fail_late, pipelined=True)
    with pytest.raises(workspace.database.driver.errors):
        workspace.database.atomically(fail_in_the_server, pipelined=True)
    assert workspace.database.rows("SELECT * FROM model_names") == []
    before = workspace.database.changes["model_names"]

    def two(transaction: Transaction) -> list[str]:
        transaction.run(put, {"name": "y"})
        found = transaction.later("SELECT name FROM model_names ORDER BY name")
        transaction.run(put, {"name": "z"})
        return [row["name"] for row in found()]

    assert workspace.database.atomically(two, pipelined=True) == ["y"]
    assert len(workspace.database.rows("SELECT * FROM model_names")) == 2
    assert workspace.database.changes["model_names"] == before + 1


def test_a_transaction_inside_another_is_refused_instead_of_waiting_for_itself(workspace: Workspace) -> None:
    with workspace.database.transaction(), pytest.raises(RuntimeError, match="open already"):
        workspace.runs.add(samples.run())
    workspace.runs.add(samples.run())


def test_a_snapshot_does_not_see_what_is_committed_meanwhile(workspace: Workspace) -> None:
    with workspace.database.snapshot() as transaction:
        before = transaction.rows("SELECT COUNT(*) AS n FROM runs")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(workspace.runs.add, samples.run()).result()
        assert transaction.rows("SELECT COUNT(*) AS n FROM runs") == before
    assert len(workspace.runs.list()) == 1


def test_counting_up_from_many_threads_loses_nothing(workspace: Workspace) -> None:
    workspace.runs.add(samples.run(seconds={"train": 0}))

    def count(_: int) -> None:
        with workspace.database.transaction(lock="counter") as transaction:
            (row,) = transaction.rows("SELECT COALESCE(MAX(last_version), 0) AS n FROM model_names")
            transaction.run(
                "INSERT INTO model_names (name, last_version) VALUES ('x', :n) "
                "ON CONFLICT (name) DO UPDATE SET last_version = excluded.last_version",
                {"n": row["n"] + 1},
            )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(80)))
    assert workspace.database.rows("SELECT last_version FROM model_names") == [{"last_version": 80}]


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workspace.database.driver.dialect != "sqlite":
        pytest.skip("a server's disk cannot be filled from here")
    connect = workspace.database.driver.connect

    def small() -> sqlite3.Connection:
        connection: sqlite3.Connection = connect()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        return connection

    workspace.database.close()
    monkeypatch.setattr(workspace.database.driver, "connect", small)
    with pytest.raises(ResourceError, match="the disk is full") as caught:
        workspace.runs.add(samples.run(recipe={"text": "x" * 100_000}))
    assert caught.value.exit_code == 6
    assert workspace.runs.list() == []
    workspace.runs.add(samples.run())


def test_a_server_that_hung_up_is_connected_to_again(workspace: Workspace) -> None:
    if workspace.database.driver.dialect != "postgresql":
        pytest.skip("there is no server to hang up")
    workspace.runs.add(samples.run())
    hang_up = "SELECT pg_terminate_backend(:pid) AS done"
    rows = "SELECT id FROM runs"
    for again in (
        lambda: workspace.runs.list(),
        lambda: [workspace.runs.update("run-0000000000000001")],
        lambda: workspace.database.atomically(
            lambda t: [samples.run(id=row["id"]) for row in t.rows(rows)], pipelined=True
        ),
    ):
        (pid,) = workspace.database.rows("SELECT pg_backend_pid() AS pid")
        other = workspace.database.driver.connect()
        other.execute(workspace.database.driver.statement(hang_up), {"pid": pid["pid"]})
        other.close()
        assert [run.id for run in again()] == ["run-0000000000000001"]


def test_a_lock_that_is_never_given_back_is_reported(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workspace.database.driver.dialect != "sqlite":
        pytest.skip("locks of a server end with their connection")
    import tunery.store.sqlite as sqlite

    monkeypatch.setattr(sqlite, "_BUSY_S", 0.05)
    workspace.database.close()
    holder = workspace.database.driver.connect()
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(ResourceError, match="locked by another process"):
        workspace.runs.add(samples.run())
    holder.execute("ROLLBACK")
    holder.close()
    workspace.runs.add(samples.run())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_connections_of_its_own(workspace: Workspace) -> None:
    workspace.runs.add(samples.run())
    child = os.fork()
    if child == 0:
        try:
            workspace.runs.update("run-0000000000000001", error="seen by the child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    seen: Any = workspace.runs.get("run-0000000000000001")
    assert seen.error == "seen by the child"
