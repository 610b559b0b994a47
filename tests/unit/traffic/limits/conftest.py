"""Ledgers of each kind, on the real Redis and the real PostgreSQL where they answer on their usual ports."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from tests.unit.store.conftest import (  # noqa: F401
    postgres_database,
    postgres_server,
    schema_of_its_own,
)

from tunery.store.limits import Counts
from tunery.store.workspace import Workspace
from tunery.traffic.limits.database import DatabaseLedger
from tunery.traffic.limits.ledger import Ledger
from tunery.traffic.limits.memory import MemoryLedger
from tunery.traffic.limits.redis import RedisLedger

REDIS = "redis://127.0.0.1:6379/15"
KINDS = ("memory", "redis", "postgresql")


class Ticks:
    """Time that is set by hand."""

    def __init__(self) -> None:
        self.at = 1_772_366_400.0  # 2026-03-01T12:00:00Z

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture(scope="session")
def redis_url() -> str | None:
    try:
        with Redis.from_url(REDIS, socket_connect_timeout=2) as client:
            client.ping()
    except RedisError:
        return None
    return REDIS


@pytest.fixture
def redis_prefix(redis_url: str | None) -> Iterator[str]:
    prefix = f"test-{secrets.token_hex(6)}"
    yield prefix
    if redis_url is not None:
        with Redis.from_url(redis_url) as client:
            for name in client.scan_iter(f"{prefix}:*"):
                client.delete(name)


@pytest.fixture
def postgres_url(postgres_database: str | None) -> Iterator[str | None]:  # noqa: F811
    if postgres_database is None:
        yield None
        return
    with schema_of_its_own(postgres_database) as url:
        yield url


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, redis_url: str | None, postgres_server: str | None) -> str:  # noqa: F811
    missing = {"redis": redis_url is None, "postgresql": postgres_server is None}
    if missing.get(request.param):
        pytest.skip(f"no {request.param} answers on its usual port")
    return str(request.param)


@pytest.fixture
def open_ledger(
    kind: str,
    ticks: Ticks,
    tmp_path: Path,
    redis_prefix: str,
    postgres_url: str | None,
) -> Iterator[Callable[[], Ledger]]:
    """Open one ledger after another on the same counts."""
    with ExitStack() as opened:

        def make() -> Ledger:
            made = _open(kind, ticks, tmp_path, (redis_prefix, postgres_url), opened)
            opened.callback(made.close)
            return made

        yield make


def _open(kind: str, ticks: Ticks, folder: Path, shared: tuple[str, str | None], opened: ExitStack) -> Ledger:
    prefix, postgres_url = shared
    if kind == "redis":
        return RedisLedger(REDIS, prefix=prefix, now=ticks)
    url = postgres_url if kind == "postgresql" else f"sqlite:///{folder / 'counts.db'}"
    workspace = Workspace.open(folder / "home", database_url=url)
    opened.callback(workspace.close)
    if kind == "memory":
        return MemoryLedger(ticks, Counts(workspace.database))
    return DatabaseLedger(Counts(workspace.database.hurried()), now=ticks)


@pytest.fixture
def ledger(open_ledger: Callable[[], Ledger]) -> Ledger:
    return open_ledger()
