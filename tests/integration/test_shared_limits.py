"""Two servers on one home count limits together, in Redis or in PostgreSQL, and go on without."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from redis import Redis
from redis.exceptions import RedisError

from tests.integration.live_api import BASE, Live, live
from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine
from tests.unit.store.conftest import postgres_database, postgres_server, schema_of_its_own  # noqa: F401
from tunery.api.config import ServerSettings
from tunery.core.limits import Limits
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.bases import Opened
from tunery.store.workspace import Workspace
from tunery.traffic.limits.config import LimitSettings

REDIS = "redis://127.0.0.1:6379/13"
LIMITS = LimitSettings(key=Limits(requests_per_minute=3, tokens_per_day=10_000))


def opened(info: BaseModelInfo) -> Opened:
    return Opened(ScriptedEngine({"hi": "there"}), CharTokenizer())


def ask(client: OpenAI) -> str | None:
    answer = client.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "hi"}], max_tokens=8
    )
    return answer.choices[0].message.content


@pytest.fixture(params=["redis", "postgresql"])
def url(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres_database: str | None,  # noqa: F811
) -> Iterator[str]:
    """Yield the database of two servers, with the Redis in the environment where they count in that."""
    if request.param == "postgresql":
        if postgres_database is None:
            pytest.skip("no PostgreSQL answers on its usual port")
        with schema_of_its_own(postgres_database) as own:
            yield own
        return
    try:
        with Redis.from_url(REDIS, socket_connect_timeout=2) as client:
            client.ping()
    except RedisError:
        pytest.skip("no Redis answers on its usual port")
    monkeypatch.setenv("TUNERY_REDIS_URL", REDIS)
    yield f"sqlite:///{tmp_path / 'tunery.db'}"
    with Redis.from_url(REDIS) as client:
        client.flushdb()


@pytest.fixture
def servers(url: str, tmp_path: Path, tiny_model: Path) -> Iterator[tuple[Live, Live]]:
    workspace = Workspace.open(tmp_path / "home", database_url=url)
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), limits=LIMITS)
    with (
        live(workspace, tiny_model, settings=settings, open_base=opened) as one,
        live(workspace, tiny_model, settings=settings, open_base=opened) as other,
    ):
        yield one, other
    workspace.close()


def test_what_one_server_lets_in_the_other_counts(servers: tuple[Live, Live]) -> None:
    one, other = servers
    clients = [one.client(key=one.secret), other.client(key=one.secret)]
    assert [ask(clients[n % 2]) for n in range(3)] == ["there"] * 3
    for client in clients:
        with pytest.raises(openai.RateLimitError) as refused:
            ask(client)
        assert 0 < int(refused.value.response.headers["retry-after-ms"]) <= 20_000
    found = other.call("GET", "/v1/limits", Authorization=f"Bearer {one.secret}").json()["data"]
    day = next(entry for entry in found if entry["limit"] == "tokens_per_day")
    assert (day["used"] + day["reserved"]) > 0
    assert one.call("GET", "/health").json()["limits_counted"] is True


def test_two_homes_on_one_redis_do_not_count_together(tmp_path: Path) -> None:
    marks = set()
    for name in ("one", "other", "one"):
        home = tmp_path / name
        workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
        marks.add(workspace.counts.mark())
        workspace.close()
    assert len(marks) == 2


def test_a_server_without_its_counts_answers_and_says_so(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNERY_REDIS_URL", f"redis://:{secrets.token_hex(4)}@127.0.0.1:1/0")
    home = tmp_path / "home"
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), limits=LIMITS)
    with live(workspace, tiny_model, settings=settings, open_base=opened) as server:
        client = server.client()
        assert [ask(client) for _ in range(3)] == ["there"] * 3
        with pytest.raises(openai.RateLimitError):  # by its own count
            ask(client)
        health = server.call("GET", "/health").json()
        assert (health["status"], health["limits_counted"]) == ("degraded", False)
        assert "tunery_limits_counted 0.0" in server.call("GET", "/metrics").text
    refusing = settings.model_copy(
        update={"limits": LIMITS.model_copy(update={"when_unreachable": "refuse"})}
    )
    with live(workspace, tiny_model, settings=refusing, open_base=opened) as server:
        with pytest.raises(openai.InternalServerError, match="limits cannot be counted now") as away:
            ask(server.client())
        assert away.value.status_code == 503
    workspace.close()
