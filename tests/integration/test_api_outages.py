"""The database goes away: requests are answered all the same, and every record is there afterwards."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.live_api import Live, live, register
from tests.unit.store.conftest import (  # noqa: F401
    postgres_database,
    postgres_server,
    schema_of_its_own,
)
from tests.unit.store.cut_line import CutLine
from tunery.api.config import ServerSettings
from tunery.store.workspace import Workspace
from tunery.traffic.config import CacheSettings, TrafficSettings

AWAY_S = 2.0
SETTINGS = TrafficSettings(cache=CacheSettings(fresh_s=0.2))


def serving(base: Path) -> ServerSettings:
    return ServerSettings(port=0, run_jobs=False, base=str(base), traffic=SETTINGS)


def ask(server: Live, model: str = "bot") -> str:
    """Ask with a client that tries once, and return the call's id."""
    client = server.client()
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "the red door"}], max_tokens=2
    )
    assert answer.model == "bot@1"
    return answer.id


def steadily(server: Live, seconds: float) -> list[str]:
    """Ask again and again for a while; return the ids, of which each was answered in time."""
    ids, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        ids.append(ask(server))
        assert time.monotonic() - began < 2.5
        time.sleep(0.05)
    return ids


def all_there(server: Live, ids: list[str]) -> None:
    """Wait until the database has each call once."""
    deadline = time.monotonic() + 20
    while True:
        there = [record.id for record in server.workspace.requests.every()]
        if set(ids) <= set(there) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert set(ids) <= set(there)
    assert len(there) == len(set(there))


@pytest.mark.parametrize("how", [CutLine.cut, CutLine.hush], ids=["refused", "silent"])
def test_requests_are_answered_while_postgres_cannot_be_reached(
    tiny_model: Path,
    tiny_adapters: dict[str, Path],
    postgres_database: str | None,  # noqa: F811
    tmp_path: Path,
    how: Callable[[CutLine], None],
) -> None:
    if postgres_database is None:
        pytest.skip("no PostgreSQL answers on 127.0.0.1:5432")
    with schema_of_its_own(postgres_database) as url, CutLine("127.0.0.1", 5432) as line:
        through = urlsplit(url)._replace(netloc=f"postgres@127.0.0.1:{line.port}").geturl()
        workspace = Workspace.open(tmp_path / "home", database_url=through)
        try:
            with live(workspace, tiny_model, settings=serving(tiny_model)) as server:
                register(workspace, tiny_model, tiny_adapters["a"], "bot")
                ids = [ask(server)]
                line.cut()
                ids += steadily(server, AWAY_S)
                unknown = server.call(
                    "POST",
                    "/v1/chat/completions",
                    {"model": "nobody", "messages": [{"role": "user", "content": "x"}]},
                )
                assert (unknown.status, unknown.json()["error"]["code"]) == (503, "database_unavailable")
                assert server.call("GET", "/health").status == 200  # what is known is served
                line.mend()
                ids += steadily(server, 0.5)
                all_there(server, ids)
                assert len(ids) > 10
        finally:
            workspace.close()


def test_requests_are_answered_while_sqlite_is_locked(
    workspace: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    with live(workspace, tiny_model, settings=serving(tiny_model)) as server:
        register(workspace, tiny_model, tiny_adapters["a"], "bot")
        ids = [ask(server)]
        holder = sqlite3.connect(workspace.root / "tunery.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        ids += steadily(server, AWAY_S)
        holder.execute("ROLLBACK")
        holder.close()
        ids += steadily(server, 0.3)
        all_there(server, ids)
        assert len(ids) > 10


def test_a_revoked_key_is_refused_at_once_here_and_in_time_elsewhere(
    workspace: Workspace, tiny_model: Path
) -> None:
    with live(workspace, tiny_model, settings=serving(tiny_model)) as server:
        keys = [workspace.keys.create(name) for name in ("here", "elsewhere")]
        for key in keys:
            assert server.call("GET", "/v1/models", Authorization=f"Bearer {key.secret}").status == 200
        workspace.keys.revoke(keys[0].key.id)
        assert server.call("GET", "/v1/models", Authorization=f"Bearer {keys[0].secret}").status == 401
        other = Workspace.open(workspace.root, database_url=f"sqlite:///{workspace.root / 'tunery.db'}")
        try:
            other.keys.revoke(keys[1].key.id)
        finally:
            other.close()
        time.sleep(0.25)
        assert server.call("GET", "/v1/models", Authorization=f"Bearer {keys[1].secret}").status == 401
