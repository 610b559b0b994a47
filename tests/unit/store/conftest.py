"""The store's tests run on SQLite and, where a PostgreSQL answers on its usual local port, on that too."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tunery.store.database import open_database
from tunery.store.schema import METADATA
from tunery.store.upgrade import ensure_current
from tunery.store.workspace import Workspace

psycopg = pytest.importorskip("psycopg")

_SERVER = "postgresql://postgres@127.0.0.1:5432"


class ManualClock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def pass_(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def postgres_server() -> str | None:
    """URL of the local server; None where none answers."""
    try:
        psycopg.connect(f"{_SERVER}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return None
    return _SERVER


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str | None) -> Iterator[str | None]:
    """URL of a database made for this session and dropped after it."""
    if postgres_server is None:
        yield None
        return
    name = f"tunery_test_{secrets.token_hex(6)}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgres_server}/{name}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest, postgres_server: str | None) -> str:
    """Kind of database; a test that asks for one runs once for each."""
    if request.param == "postgresql" and postgres_server is None:
        pytest.skip("no PostgreSQL answers on 127.0.0.1:5432")
    return str(request.param)


@contextmanager
def schema_of_its_own(database: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    yield f"{database}?options=-csearch_path%3D{name}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def empty_database_url(dialect: str, tmp_path: Path, postgres_database: str | None) -> Iterator[str]:
    """URL of a database without tables."""
    if postgres_database is None or dialect == "sqlite":
        (tmp_path / "home").mkdir(exist_ok=True)
        yield f"sqlite:///{tmp_path / 'home' / 'tunery.db'}"
    else:
        with schema_of_its_own(postgres_database) as url:
            yield url


@pytest.fixture(scope="session")
def postgres_tables(postgres_database: str | None) -> Iterator[str | None]:
    """URL of a schema with all tables, made once because that takes longer than most tests."""
    if postgres_database is None:
        yield None
        return
    with schema_of_its_own(postgres_database) as url:
        database = open_database(url)
        ensure_current(database)
        database.close()
        yield url


@pytest.fixture
def database_url(dialect: str, tmp_path: Path, new_home: Path, postgres_tables: str | None) -> Iterator[str]:
    """URL of a database whose tables hold no rows."""
    if postgres_tables is None or dialect == "sqlite":
        shutil.copytree(new_home, tmp_path / "home", dirs_exist_ok=True)
        yield f"sqlite:///{tmp_path / 'home' / 'tunery.db'}"
        return
    yield postgres_tables
    with psycopg.connect(postgres_tables) as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(f"DELETE FROM {table.name}")


@pytest.fixture
def workspace(tmp_path: Path, database_url: str, clock: ManualClock) -> Iterator[Workspace]:
    """Yield an open workspace, once for each kind of database, whose clock stands still."""
    opened = Workspace.open(tmp_path / "home", database_url=database_url, clock=clock)
    yield opened
    opened.close()


def url_of(workspace: Workspace) -> str:
    """Return the URL that a fixture's workspace was opened with, to open it a second time."""
    driver = workspace.database.driver
    return str(getattr(driver, "_url", f"sqlite:///{driver.label}"))
