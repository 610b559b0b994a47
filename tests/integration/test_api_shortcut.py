"""Calls past the framework's layers: answered as by them, to the last header."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.dependencies.utils import request_body_to_args

from tests.integration.live_api import BASE, Live, live
from tunery.api import shortcut
from tunery.api.config import ServerSettings
from tunery.store.workspace import Workspace

HELLO = [{"role": "user", "content": "hello"}]
CHAT, TEXT, RESPONSES, EMBEDDINGS = (f"/v1{path}" for path in shortcut.PATHS)
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"model": BASE, "messages": HELLO, "max_tokens": 4, "temperature": 0},
    TEXT: {"model": BASE, "prompt": "hello", "max_tokens": 4, "temperature": 0},
    RESPONSES: {"model": BASE, "input": "hello", "max_output_tokens": 16, "temperature": 0},
    EMBEDDINGS: {"model": BASE, "input": "hello"},
}
BROKEN: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"3",
    b"{",
    b"{}",
    b'{"model": 3, "model": 4}',
    b'{"model": NaN}',
    b'{"model": "\\ud800"}',
    b'{"model": "nobody", "messages": [{"role": "user", "content": "a"}], "prompt": "a", "input": "a"}',
    b'{"model": 7, "messages": "a", "prompt": {"a": 1}, "input": {"a": 1}, "temperature": "hot"}',
    b"[" * 100 + b"]" * 100,
    b"\xff\xfe",
    b'{"model": "' + b"a" * 20_000 + b'"}',
)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), max_body_bytes=16_384)
    workspace = Workspace.open(tmp_path_factory.mktemp("shortcut") / "home")
    with contextlib.closing(workspace), live(workspace, tiny_model, settings=settings) as running:
        yield running


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each body that was read past the framework."""
    seen: list[object] = []
    read = request_body_to_args

    async def counted(fields: Any, sent: object, embed_body_fields: bool) -> Any:
        seen.append(sent)
        return await read(fields, sent, embed_body_fields)

    monkeypatch.setattr("tunery.api.shortcut.request_body_to_args", counted)
    return seen


def both(
    server: Live,
    path: str,
    content: bytes,
    headers: Mapping[str, str] | None = None,
    http: httpx2.Client | None = None,
) -> tuple[httpx2.Response, httpx2.Response]:
    """Return a request's answer by the short way and by the usual one, which a query goes."""
    sent = {"content-type": "application/json", **(headers or {})}
    with contextlib.nullcontext(http) if http is not None else server.http() as client:
        short = client.post(path, content=content, headers=sent)
        return short, client.post(f"{path}?way=usual", content=content, headers=sent)


def told(answer: httpx2.Response) -> tuple[int, str, dict[str, str]]:
    """Return an answer without what is never twice the same."""
    ids = r"(req|chatcmpl|cmpl|resp|msg)_?-?[0-9A-Za-z_-]{12,}"
    text = re.sub(r'"(created|created_at|completed_at)": ?[0-9.]+', '"when"', re.sub(ids, "ID", answer.text))
    changing = {"date", "x-request-id", "content-length"}
    headers = {n: v for n, v in answer.headers.items() if n not in changing and "ratelimit" not in n}
    return answer.status_code, text, headers


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_answered_alike_by_both_ways(
    server: Live, taken: list[object], path: str, stream: bool
) -> None:
    content = json.dumps(GOOD[path] | ({"stream": True} if stream else {})).encode()
    short, usual = both(server, path, content)
    assert told(short) == told(usual)
    assert short.status_code == (400 if path == EMBEDDINGS else 200), short.text  # there is no encoder
    assert short.headers["x-request-id"].startswith("req_")
    assert len(taken) == 1


@pytest.mark.parametrize("path", GOOD)
def test_a_body_is_refused_alike_by_both_ways(server: Live, path: str) -> None:
    with server.http() as http:
        for content in BROKEN:
            short, usual = both(server, path, content, http=http)
            assert told(short) == told(usual)
            assert 400 <= short.status_code < 500, short.text


def test_who_may_not_call_is_refused_alike_before_the_body_is_read(server: Live, taken: list[object]) -> None:
    reader = server.workspace.keys.create("reader", role="read")
    for secret in (reader.secret, "tk-wrong"):
        short, usual = both(server, CHAT, b"{", {"authorization": f"Bearer {secret}"})
        assert told(short) == told(usual)
        assert short.status_code in (401, 403)
    assert taken == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x+json", "application/json; charset=latin-1", ""]
)
def test_a_body_that_is_not_plainly_json_goes_the_usual_way(
    server: Live, taken: list[object], kind: str
) -> None:
    content = json.dumps(GOOD[CHAT]).encode()
    short, usual = both(server, CHAT, content, {"content-type": kind})
    assert told(short) == told(usual)
    assert taken == []


def test_other_methods_and_paths_go_the_usual_way(server: Live, taken: list[object]) -> None:
    with server.http() as http:
        assert http.get(EMBEDDINGS).status_code == 405
        assert http.post(f"{RESPONSES}/input_tokens", json=GOOD[RESPONSES]).status_code in (200, 400)
        assert http.post("/v1/chat/nothing", json={}).status_code == 404
    assert taken == []
