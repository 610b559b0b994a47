"""Bodies that are meant to hurt: refused in OpenAI's form, quickly, and nothing of them stays."""

from __future__ import annotations

import gc
import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.live_api import BASE, Live, live
from tunery.store.workspace import Workspace

CHAT, PLAIN, ANSWERS, VECTORS = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"
JOBS, BATCHES, UPLOADS = "/v1/fine_tuning/jobs", "/v1/batches", "/v1/uploads"
GRADERS = "/v1/fine_tuning/alpha/graders/run"
EVERY = {
    CHAT: b'"model": "tiny-llama", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1',
    PLAIN: b'"model": "tiny-llama", "prompt": "a", "max_tokens": 1',
    ANSWERS: b'"model": "tiny-llama", "input": "a", "max_output_tokens": 1',
    VECTORS: b'"model": "tiny-llama", "input": "a"',
    JOBS: b'"model": "tiny-llama", "training_file": "file-none"',
    BATCHES: b'"input_file_id": "file-none", "endpoint": "/v1/completions", "completion_window": "24h"',
    UPLOADS: b'"bytes": 5, "filename": "a", "mime_type": "text/jsonl", "purpose": "batch"',
    GRADERS: b'"grader": {"type": "string_check"}, "model_sample": "a"',
}
DEEP = 50_000
ANYWHERE = {
    "deep lists": b'"x": ' + b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'"metadata": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "120,000 keys": b", ".join(b'"k%d":1' % i for i in range(120_000)),
    "1e400": b'"seed": 1e400, "metadata": 1e400',
    "an integer of 5,000 digits": b'"seed": ' + b"9" * 5_000 + b', "metadata": ' + b"9" * 5_000,
    "a lone surrogate": b'"metadata": {"a": "\\ud800"}, "model": "\\udfff"',
    "NUL": b'"metadata": {"a\\u0000": "\\u0000"}, "model": "a\\u0000b", "training_file": "\\u0000"',
    "bytes that are not UTF-8": b'"metadata": {"a": "\xff\xfe"}, "model": "\xc3"',
    "oversize metadata": b'"metadata": {"a": "' + b"x" * 100_000 + b'"}',
    "NaN": b'"metadata": {"a": NaN}, "seed": NaN',
}
BLANK = gzip.compress(b" " * 30_000_000)
REFUSED = {400, 404, 408, 413, 415}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    workspace = Workspace.open(tmp_path_factory.mktemp("hostile"))
    with live(workspace, tiny_model) as opened:
        warm = {"model": BASE, "prompt": "a", "max_tokens": 1}
        assert opened.call("POST", PLAIN, warm).status == 200
        yield opened


def check(server: Live, path: str, body: object, *, accepted: bool = False, **headers: str) -> None:
    """Send a body, which must be refused in OpenAI's form in little processor time and keep no memory.

    Args:
        accepted: Whether it may be carried out as well, since its size is that of an honest request.
    """
    before, began = psutil.Process().memory_info().rss, time.process_time()
    answer = server.call("POST", path, body, **headers)
    assert time.process_time() - began < 3  # seconds of this process, client and server both
    if psutil.Process().memory_info().rss - before > 50e6:
        gc.collect()
        assert psutil.Process().memory_info().rss - before < 50e6
    if not (accepted and answer.status == 200):
        assert answer.status in REFUSED, (answer.status, answer.text[:600])
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert len(answer.text) < 10_000


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("what", ANYWHERE)
def test_a_hostile_body_is_refused_everywhere(server: Live, what: str, path: str) -> None:
    check(server, path, b"{" + EVERY[path] + b", " + ANYWHERE[what] + b"}")


def schema(inner: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": inner}}}


def bomb(depth: int) -> dict[str, Any]:
    """Return a schema whose references double ``depth`` times."""
    defs: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    return {"$defs": {**defs, f"d{depth}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def tool(number: int) -> dict[str, Any]:
    return {"type": "function", "function": {"name": f"f{number}", "parameters": {"type": "object"}}}


CHATS: dict[str, dict[str, Any]] = {
    "itself": schema({"$ref": "#"}),
    "two of each other": schema(
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    ),
    "away": schema({"$ref": "file:///etc/passwd"}),
    "allOf bomb": schema(bomb(30)),
    "huge enum": schema({"enum": [f"v{i}" for i in range(100_000)]}),
    "exponential pattern": schema({"type": "string", "pattern": "^(a+)+" + "(x+x+)+y" * 200 + "$"}),
    "counted pattern": schema({"type": "string", "pattern": "((a{1,1000}){1,1000}){1,1000}"}),
    "long text": schema({"type": "string", "minLength": 10**9}),
    "many items": schema({"type": "array", "minItems": 10**9, "items": {"type": "string"}}),
    "many stops": {"stop": ["s"] * 100_000},
    "long stop": {"stop": "s" * 1_000_000},
    "logit_bias": {"logit_bias": {str(i): 1 for i in range(100_000)}},
    "n": {"n": 10**9},
    "max_tokens": {"max_completion_tokens": 10**30},
    "tools": {"tools": [tool(i) for i in range(10_000)]},
    "top_logprobs": {"logprobs": True, "top_logprobs": 10**9},
    "long model": {"model": "m" * 100_000},
    "model up": {"model": "../../etc/passwd"},
    "model up encoded": {"model": "%2e%2e/%2e%2e/etc/passwd"},
    "model checkpoint": {"model": "tiny-llama:ckpt-step-" + "9" * 5_000},
}


@pytest.mark.parametrize("what", CHATS)
def test_a_hostile_chat_is_refused(server: Live, what: str) -> None:
    body = {"model": BASE, "messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 1}
    check(server, CHAT, {**body, **CHATS[what]}, accepted=True)


@pytest.mark.parametrize("path", EVERY)
def test_a_body_of_another_type_or_coding_is_refused(server: Live, path: str) -> None:
    plain = b"{" + EVERY[path] + b"}"
    check(server, path, gzip.compress(plain), **{"Content-Encoding": "gzip"})
    check(server, path, BLANK, **{"Content-Encoding": "gzip"})
    check(server, path, plain, accepted=True, **{"Content-Type": "text/xml"})
    check(server, path, b"")


@pytest.mark.parametrize(
    "name", ["../../x.jsonl", "%2e%2e/x", "a\\u0000b", "x" * 100_000, "/etc/passwd", "..", "CON", "\\ud800"]
)
def test_a_files_name_is_no_path(server: Live, name: str) -> None:
    body = b'{"bytes": 5, "mime_type": "text/jsonl", "purpose": "batch", "filename": "%s"}' % name.encode()
    check(server, UPLOADS, body, accepted=True)
    edge = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\n'
        b'content-disposition: form-data; name="file"; filename="%s"\r\n\r\n{}\r\n--b--\r\n' % name.encode()
    )
    check(server, "/v1/files", edge, accepted=True, **{"Content-Type": "multipart/form-data; boundary=b"})


def test_the_server_answers_afterwards(server: Live) -> None:
    assert server.call("POST", PLAIN, {"model": BASE, "prompt": "a", "max_tokens": 1}).status == 200
