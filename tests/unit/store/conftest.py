"""The store's tests run on SQLite and, where a PostgreSQL answers on its usual local port, on that too."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

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
def empty_database_url(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_database: str | None
) -> Iterator[str]:
    """URL of a database without tables, once for each kind."""
    if request.param == "sqlite":
        (tmp_path / "home").mkdir()
        yield f"sqlite:///{tmp_path / 'home' / 'tunery.db'}"
        return
    if postgres_database is None:
        pytest.skip("no PostgreSQL answers on 127.0.0.1:5432")
    # A schema of its own for each test: nothing to clean, nothing left of the test before.
    schema = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    yield f"{postgres_database}?options=-csearch_path%3D{schema}"
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def workspace(tmp_path: Path, empty_database_url: str, clock: ManualClock) -> Iterator[Workspace]:
    """Yield an open workspace, once for each kind of database, whose clock stands still."""
    opened = Workspace.open(tmp_path / "home", database_url=empty_database_url, clock=clock)
    yield opened
    opened.close()
