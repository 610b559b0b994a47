"""An engine that dies: its requests are told, health tells the truth, and another one answers soon after."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_cli import Tunery, home, tunery  # noqa: F401
from tests.integration.live_api import BASE, Live, live, register
from tunery.api.config import ServerSettings
from tunery.store.workspace import Workspace

ASK = {"model": "bot", "prompt": "One two", "max_tokens": 4}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, and wait no longer than a second between two tries."""
    monkeypatch.setattr("tunery.api.health._INTERVAL_S", 0.2)
    monkeypatch.setattr("tunery.pipeline.gateway.bases._LONGEST_PAUSE_S", 1.0)


def engine_of(server: Live) -> Any:
    return server.bases.get(server.bases.default).engine


def test_a_dead_engine_is_told_of_and_opened_again(
    workspace: Workspace, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    register(workspace, tiny_model, tiny_adapters["a"], "bot")
    with live(workspace, tiny_model) as server:
        before = server.call("POST", "/v1/completions", ASK).json()["choices"][0]["text"]
        dead, reviving = engine_of(server), threading.Event()
        real = server.bases._open_base

        def slowly(info: Any) -> Any:
            reviving.wait(20)
            return real(info)

        server.bases._open_base = slowly

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("a wire came loose")

        dead._model.forward = broken
        failed = server.call("POST", "/v1/completions", ASK)
        assert (failed.status, failed.json()["error"]["type"]) == (503, "server_error")
        assert int(failed.headers["retry-after"]) >= 1
        health = server.call("GET", "/health")
        assert health.status == 503
        assert "a wire came loose" in health.json()["error"]["message"]
        assert "retry-after" in health.headers
        assert server.call("GET", "/health/live").status == 200
        meanwhile = server.call("POST", "/v1/completions", ASK)
        assert meanwhile.status == 503
        reviving.set()
        deadline = time.monotonic() + 30
        while server.call("GET", "/health").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        again = server.call("POST", "/v1/completions", ASK)
        assert again.json()["choices"][0]["text"] == before
        assert engine_of(server) is not dead
        assert dead.healthy().stopped


def test_an_engine_that_cannot_be_opened_again_is_tried_again_with_pauses(
    workspace: Workspace, tiny_model: Path
) -> None:
    values = {"port": 0, "run_jobs": False, "base": str(tiny_model), "traffic": {"breaker": {"open_s": 0.5}}}
    with live(workspace, tiny_model, settings=ServerSettings.model_validate(values)) as server:
        ask = {**ASK, "model": BASE}
        assert server.call("POST", "/v1/completions", ask).status == 200
        base = server.bases.get(server.bases.default)
        server.bases._open_base, real = _unopenable, server.bases._open_base
        base.engine.close()
        deadline = time.monotonic() + 30
        while base._failures < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        health = server.call("GET", "/health")
        assert health.status == 503
        assert "is being opened again" in health.json()["error"]["message"]
        assert server.call("POST", "/v1/completions", ask).status == 503
        server.bases._open_base = real
        while server.call("POST", "/v1/completions", ask).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _unopenable(_: Any) -> Any:
    raise MemoryError


def test_health_says_when_the_disk_is_almost_full_and_when_the_database_is_away(
    workspace: Workspace, tiny_model: Path
) -> None:
    with live(workspace, tiny_model) as server:
        watch = server.watch
        assert server.call("GET", "/health").status == 200
        watch._min_free_bytes = 2**62
        _wait_for(server, "min_free_bytes")
        watch._min_free_bytes = 0
        _wait_for(server, None)
        hung = threading.Event()
        real = watch._ask_database

        def hang() -> None:
            hung.wait(30)

        watch._ask_database = hang
        watch._looked_at -= 100
        began = time.monotonic()
        endured = server.call("GET", "/health").json()
        assert endured["status"] == "degraded"
        assert "the database has not answered" in endured["database"]
        watch._answered_at -= 1000  # longer than keys and names are known by heart
        told = server.call("GET", "/health")
        assert time.monotonic() - began < 2
        assert told.status == 503
        assert "the database has not answered" in told.text
        hung.set()
        watch._ask_database = real
        _wait_for(server, None)


def _wait_for(server: Live, reason: str | None) -> None:
    deadline = time.monotonic() + 20
    while True:
        told = server.call("GET", "/health")
        if told.status == (200 if reason is None else 503) and (reason is None or reason in told.text):
            return
        assert time.monotonic() < deadline, told.text
        time.sleep(0.1)


def test_status_shows_how_the_engine_stands(
    workspace: Workspace,
    tiny_model: Path,
    tunery: Tunery,  # noqa: F811
) -> None:
    with live(workspace, tiny_model) as server:
        body = {"model": BASE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        for stream in (False, True):
            answered = server.call("POST", "/v1/chat/completions", {**body, "stream": stream})
            assert (answered.status, answered.headers["x-tunery-model-version"]) == (200, BASE)
        told = tunery("status", server.url, "--json").json
        assert told["status"] == "ok"
        assert told["engines"] == [{"name": BASE, "circuit": "closed", "waiting": 0, "running": 0}]
        breaker = server.bases.served[0].breaker
        for _ in range(5):
            breaker.fail("http://10.0.0.7:8000 answered 502")
        shown = tunery("status", f"{server.url}/v1").out
        assert "degraded" in shown
        assert "open" in shown
        assert "10.0.0.7" not in server.call("GET", "/health").text  # asked without a key
        assert server.call("POST", "/v1/chat/completions", body).json()["error"]["code"] == "circuit_open"
        assert 'tunery_engine_circuit_open{engine="tiny-llama"} 1.0' in server.call("GET", "/metrics").text
    ended = tunery("status", server.url)
    assert ended.code == 6
    assert "no Tunery server answers" in ended.err
