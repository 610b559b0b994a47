"""Keys, errors, limits, models, health and metrics: what holds before any model speaks."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.integration.live_api import BASE, Live, live, register
from tunery.api.config import ServerSettings
from tunery.api.server import bind, serve
from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError, ConflictError
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.bases import Opened
from tunery.store.workspace import Workspace

HELLO = [{"role": "user", "content": "hello"}]


def unused(info: BaseModelInfo) -> Opened:
    raise RuntimeError(f"the secret-ish engine of {info.name} broke")


@pytest.fixture
def server(workspace: Workspace, tiny_model: Path) -> Iterator[Live]:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), max_body_bytes=4096)
    with live(workspace, tiny_model, settings=settings, open_base=unused) as running:
        yield running


def is_error(answer: httpx2.Response, status: int) -> dict[str, str | None]:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error: dict[str, str | None] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")
    return error


def test_no_key_a_wrong_key_and_a_revoked_key_are_refused(server: Live) -> None:
    for headers in ({}, {"Authorization": "Bearer tk-wrong"}, {"Authorization": f"Basic {server.secret}"}):
        answer = httpx2.get(f"{server.url}/v1/models", headers=headers)
        assert is_error(answer, 401)["code"] == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        server.client(key="tk-wrong").models.list()
    assert server.client().models.list().data
    server.workspace.keys.revoke(server.workspace.keys.list()[0].id)
    with pytest.raises(openai.AuthenticationError, match="unknown, was revoked or has expired"):
        server.client().models.list()


def test_a_key_is_asked_for_before_the_body_is_read(server: Live) -> None:
    answer = httpx2.post(f"{server.url}/v1/files", content=b"x" * 1_000_000)
    is_error(answer, 401)


def test_every_error_has_openais_shape_and_a_request_id(server: Live) -> None:
    with server.http() as http:
        assert is_error(http.get("/v1/nowhere"), 404)["code"] == "not_found"
        assert is_error(http.get("/nowhere"), 404)["type"] == "invalid_request_error"
        assert is_error(http.put("/v1/models"), 405)["code"] == "method_not_allowed"
        broken = http.post("/v1/chat/completions", content=b"{", headers={"content-type": "application/json"})
        assert "not JSON" in (is_error(broken, 400)["message"] or "")
        missing = is_error(http.post("/v1/chat/completions", json={"messages": HELLO}), 400)
        assert missing["param"] == "model"
        assert is_error(http.get("/v1/files?limit=0"), 400)["param"] == "limit"
        assert is_error(http.get("/v1/fine_tuning/jobs/ftjob-none"), 404)["code"] == "not_found"
        lone = http.post(
            "/v1/chat/completions",
            content=rb'{"model":"m","messages":[{"role":"user","content":"\ud800"}]}',
            headers={"content-type": "application/json"},
        )
        assert "half a character" in (is_error(lone, 400)["message"] or "")


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/audio/speech", "/v1/evals/e/runs"])
def test_what_is_not_served_says_so(server: Live, path: str) -> None:
    with server.http() as http:
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            answer = http.request(method, path)
            error = is_error(answer, 404)
            assert error["code"] == "endpoint_not_served"
            assert answer.headers["Retry-After"] == "0"  # routers rest a server as long as it says
            assert answer.headers["x-should-retry"] == "false"
            assert f"{method} {path} is not served here" in (error["message"] or "")
            assert error["type"] == "invalid_request_error"
            assert "the server is up" in (error["message"] or "")
        assert http.head(path).status_code == 404
    with pytest.raises(openai.NotFoundError, match="not served here"):
        server.client(retries=2).moderations.create(input="hello")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/models", "GET"),
        ("DELETE", "/v1/files", "GET, POST"),
        ("GET", "/v1/completions", "POST"),
        ("PATCH", "/v1/files/x", "DELETE, GET"),
        ("POST", "/health", "GET"),
        ("HEAD", "/v1/models", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(server: Live, method: str, path: str, allowed: str) -> None:
    with server.http() as http:
        answer = http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


def test_all_problems_of_a_body_are_told_at_once(server: Live) -> None:
    with server.http() as http:
        body = {"model": "m", "messages": HELLO, "temperature": 9, "top_p": 0, "n": 0}
        message = is_error(http.post("/v1/chat/completions", json=body), 400)["message"] or ""
    assert all(word in message for word in ("3 problems", "temperature", "top_p", "n:"))


def test_an_unexpected_exception_is_a_500_that_tells_nothing_but_is_logged(
    server: Live, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), server.http() as http:
        answer = http.post("/v1/chat/completions", json={"model": BASE, "messages": HELLO})
    error = is_error(answer, 500)
    assert error["code"] == "internal_error"
    assert "secret-ish" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "secret-ish" in caplog.text
    assert server.secret not in caplog.text


def test_bodies_over_the_limit_are_413_with_or_without_a_length(server: Live) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 8_000 + b'"}]}'
    json_type = {"content-type": "application/json"}
    with server.http() as http:
        told = http.post("/v1/chat/completions", content=body, headers=json_type)
        pieces = http.post("/v1/chat/completions", content=iter([body[:50], body[50:]]), headers=json_type)
    for answer in (told, pieces):
        error = is_error(answer, 413)
        assert error["code"] == "body_too_large"
        assert "4,096 bytes" in (error["message"] or "")


def test_final_conflicts_are_not_retried(
    server: Live, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    for _ in range(2):
        register(server.workspace, tiny_model, tiny_adapters["a"], "bot")
    server.workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first")
    with server.http() as http:
        answer = http.delete("/v1/models/bot@1")
    assert is_error(answer, 409)["code"] == "conflict"
    assert answer.headers["x-should-retry"] == "false"
    with pytest.raises(openai.ConflictError, match="champion"):
        server.client(retries=2).models.delete("bot@1")


def test_models_are_listed_retrieved_and_deleted(
    server: Live, tiny_model: Path, tiny_adapters: dict[str, Path]
) -> None:
    for adapter in ("a", "b"):
        register(server.workspace, tiny_model, tiny_adapters[adapter], "bot")
    server.workspace.models.set_alias("bot", "champion", 1, actor="test", reason="first")
    client = server.client()
    assert {m.id for m in client.models.list()} == {BASE, "bot", "bot@1", "bot@2", "bot@champion"}
    assert client.models.retrieve("bot@champion").owned_by == "tunery"
    assert client.models.retrieve(BASE).owned_by == "base"
    base, pinned = (client.models.retrieve(name).to_dict() for name in (BASE, "bot@champion"))
    assert (base["root"], base["parent"], base["max_model_len"]) == (BASE, None, 512)
    assert (pinned["root"], pinned["parent"], pinned["max_model_len"]) == ("bot@1", BASE, 512)
    listed = {model.id: model.to_dict() for model in client.models.list()}
    assert (listed[BASE]["max_model_len"], listed["bot@champion"]["root"]) == (512, "bot@1")
    assert client.models.delete("bot@2").deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("bot@2")
    with pytest.raises(openai.BadRequestError, match="say which one"):
        client.models.delete("bot")
    with pytest.raises(openai.ConflictError):
        client.models.delete(BASE)
    assert client.models.delete("bot@1").deleted  # the only one: its aliases go with it
    assert {m.id for m in client.models.list()} == {BASE}
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("ft:Qwen/Qwen3-0.6B:acme::abc")


def test_health_needs_no_key_and_metrics_count(server: Live) -> None:
    health = httpx2.get(f"{server.url}/health")
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    with server.http() as http:
        http.post("/v1/chat/completions", json={"model": BASE, "messages": HELLO})
    text = httpx2.get(f"{server.url}/metrics").text
    assert "tunery_requests_in_flight 0.0" in text


def test_without_auth_a_foreign_page_or_host_is_refused(workspace: Workspace, tiny_model: Path) -> None:
    settings = ServerSettings(port=0, run_jobs=False, auth=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=settings, open_base=unused) as server:
        url = f"{server.url}/v1/models"
        assert httpx2.get(url).status_code == 200
        assert httpx2.get(url, headers={"Origin": "http://localhost:3000"}).status_code == 200
        is_error(httpx2.get(url, headers={"Origin": "https://evil.example"}), 403)
        is_error(httpx2.get(url, headers={"Host": "rebound.example"}), 403)


def test_cors_is_off_until_an_origin_is_named(workspace: Workspace, tiny_model: Path) -> None:
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    closed = ServerSettings(port=0, run_jobs=False, base=str(tiny_model))
    with live(workspace, tiny_model, settings=closed, open_base=unused) as server:
        answer = httpx2.options(f"{server.url}/v1/models", headers=ask)
        assert "access-control-allow-origin" not in answer.headers
    opened = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), cors_origins=("https://app.example",)
    )
    with live(workspace, tiny_model, settings=opened, open_base=unused) as server:
        answer = httpx2.options(f"{server.url}/v1/models", headers=ask)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_an_open_door_is_refused_when_settings_are_read() -> None:
    with pytest.raises(ConfigError, match=r"auth is off and host is 0\.0\.0\.0"):
        parse_settings(ServerSettings, {"host": "0.0.0.0", "auth": False}, where="serve")
    with pytest.raises(ConfigError, match="name the origins"):
        parse_settings(ServerSettings, {"cors_origins": ["*"]}, where="serve")
    assert parse_settings(ServerSettings, {"host": "::1", "auth": False}, where="serve").is_loopback


def test_a_port_in_use_is_a_conflict_before_anything_starts(workspace: Workspace) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConflictError, match=f"127.0.0.1:{port} cannot be listened on"):
            serve(workspace, ServerSettings(port=port, base="no-such-base"))
    assert workspace.keys.list() == []
    with bind(ServerSettings(port=port)) as free:
        assert free.getsockname()[1] == port
