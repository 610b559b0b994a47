"""Migrations: forward only, each from every older schema, and together equal to ``schema.py``."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, pool

from tests.unit.store import samples
from tunery.core.errors import ConflictError
from tunery.store import schema
from tunery.store.database import Database, open_database
from tunery.store.migrations import versions
from tunery.store.records import to_row
from tunery.store.upgrade import HEAD, ensure_current, revision, upgrade
from tunery.store.workspace import Workspace

STEPS = [
    importlib.import_module(f"{versions.__name__}.{module.name}")
    for module in sorted(pkgutil.iter_modules(versions.__path__), key=lambda module: module.name)
]


def test_steps_are_numbered_without_a_gap_and_say_why() -> None:
    assert [step.revision for step in STEPS] == [f"{n:04}" for n in range(1, len(STEPS) + 1)]
    assert [step.down_revision for step in STEPS] == [None, *(step.revision for step in STEPS[:-1])]
    assert STEPS[-1].revision == HEAD
    for step in STEPS:
        assert step.__name__.rpartition(".")[2].startswith(f"r{step.revision}_")
        assert "\nReason: " in (step.__doc__ or "")
        assert not hasattr(step, "downgrade")


@pytest.mark.parametrize("older", [step.revision for step in STEPS])
def test_a_database_of_each_older_schema_opens_with_its_records(
    older: str, tmp_path: Path, empty_database_url: str
) -> None:
    database = open_database(empty_database_url)
    upgrade(database, to=older)
    assert revision(database) == older
    # The first step's table, filled as that step's code filled it.
    row = to_row(samples.run(), {"id": None, "created_at": None, "name": None, "status": None})
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO runs (id, created_at, name, status, document) "
            "VALUES (:id, :created_at, :name, :status, :document)",
            row,
        )
    database.close()

    workspace = Workspace.open(tmp_path / "home", database_url=empty_database_url)
    assert revision(workspace.database) == HEAD
    assert workspace.runs.list() == [samples.run()]
    assert workspace.rollouts.list() == []
    workspace.close()


def test_requests_of_an_older_schema_keep_their_texts(tmp_path: Path, empty_database_url: str) -> None:
    database = open_database(empty_database_url)
    upgrade(database, to="0003")
    kept = samples.request("chatcmpl-1", completion="nul \0 and € and half \ud83d")
    bare = samples.request("chatcmpl-2", messages=(), completion="")
    columns = ("id", "created_at", "model", "rollout_id", "arm", "status", "format_valid", "latency_ms")
    with database.transaction() as transaction:
        for record in (kept, bare):
            row = to_row(record, columns)
            values = json.loads(str(row["document"]))
            del values["text"], values["deleted_at"]  # what that version did not know
            transaction.run(
                f"INSERT INTO requests ({', '.join(columns)}, document) "
                f"VALUES ({', '.join(':' + c for c in columns)}, :document)",
                {**row, "document": json.dumps(values)},
            )
    database.close()
    workspace = Workspace.open(tmp_path / "home", database_url=empty_database_url)
    assert workspace.requests.get("chatcmpl-1") == kept
    assert workspace.requests.get("chatcmpl-2") == bare.with_(text="not_asked")
    assert [r.messages for r in workspace.requests.heads().items] == [(), ()]
    workspace.close()


@pytest.fixture
def current(empty_database_url: str) -> Iterator[Database]:
    """Yield a database that all steps were run on, for this test alone."""
    database = open_database(empty_database_url)
    ensure_current(database)
    yield database
    database.close()


def differences(database: Database) -> list[object]:
    scheme = "postgresql+psycopg" if database.driver.dialect == "postgresql" else "sqlite"
    engine = create_engine(f"{scheme}://", creator=database.driver.connect, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, schema.METADATA))


def test_migrations_build_exactly_the_schema(current: Database) -> None:
    assert differences(current) == []


def test_the_comparison_with_the_schema_sees_a_difference(current: Database) -> None:
    with current.transaction() as transaction:
        transaction.run("DROP INDEX ix_requests_rollout")
        transaction.run("ALTER TABLE runs ADD COLUMN colour TEXT")
    assert len(differences(current)) == 2


def test_a_database_of_a_newer_tunery_is_refused_and_left_alone(
    current: Database, tmp_path: Path, empty_database_url: str
) -> None:
    with current.transaction() as transaction:
        transaction.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConflictError, match=r"newer Tunery .*9999") as caught:
        Workspace.open(tmp_path / "home", database_url=empty_database_url)
    assert "upgrade tunery" in (caught.value.hint or "")
    assert revision(current) == "9999"


def test_an_upgrade_that_fails_midway_leaves_nothing(empty_database_url: str) -> None:
    database = open_database(empty_database_url)
    with database.transaction() as transaction:
        # The last step makes this table, and will find it there.
        transaction.run("CREATE TABLE feedback (seq INTEGER)")
    with pytest.raises(Exception, match="already exists"):
        ensure_current(database)
    assert revision(database) is None
    assert not database.rows(database.driver.has_table, {"name": "runs"})
    with database.transaction() as transaction:
        transaction.run("DROP TABLE feedback")
    ensure_current(database)
    assert revision(database) == HEAD
    database.close()
