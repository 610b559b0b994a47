"""What one client may take of a server: connections, time, memory, disk; over raw sockets where needed."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

from tests.integration.live_api import BASE, Live, live
from tests.integration.test_api_files import rows
from tunery.api.config import ServerSettings
from tunery.api.connections import ConnectionSettings
from tunery.api.routes import files
from tunery.pipeline.jobs.file_check import CheckSettings
from tunery.store.workspace import Workspace

HELLO = [{"role": "user", "content": "hello"}]
LIMITS = ConnectionSettings(
    max_connections=12,
    head_timeout_s=0.4,
    body_timeout_s=0.6,
    upload_timeout_s=1.2,
    write_timeout_s=0.5,
    max_head_bytes=4096,
    max_buffered_bytes=2_000_000,
)
CHECKS = CheckSettings(at_once=1, max_rows=5_000, max_unpacked_bytes=3_000_000, max_seconds=30)


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    settings = ServerSettings(
        port=0, run_jobs=False, base=str(tiny_model), connections=LIMITS, uploads=CHECKS
    )
    with live(workspace, tiny_model, settings=settings) as running:
        with running.http() as http:
            assert http.post(
                "/v1/completions", json={"model": BASE, "prompt": "a", "max_tokens": 1}
            ).is_success
        yield running
    workspace.close()


def connect(server: Live) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20)


def head_of(server: Live, path: str, length: int, kind: str = "application/json") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.secret}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def all_of(client: socket.socket) -> bytes:
    """Read until the server closes."""
    received = b""
    while part := client.recv(65_536):
        received += part
    return received


def whole(client: socket.socket) -> bytes:
    """Read one answer, which may come in pieces."""
    answer = b""
    while part := client.recv(65_536):
        answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        size = re.search(rb"(?i)content-length: *(\d+)", head)
        if size and len(body) >= int(size[1]):
            break
    return answer


def refusal(answer: bytes) -> tuple[int, dict[str, str]]:
    """Return status and error of an answer in OpenAI's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert (b"retry-after" in head.lower()) == (status in (429, 503)), head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error


def test_headers_that_never_end_are_timed_out(server: Live) -> None:
    with connect(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 5:
            try:
                client.sendall(b"X-Slow: 1\r\n")
            except OSError:
                break
            time.sleep(0.05)
        assert time.monotonic() - began < 4
        status, error = refusal(all_of(client))
    assert (status, error["code"]) == (408, "request_timeout")


def test_a_connection_that_says_nothing_is_closed(server: Live) -> None:
    with connect(server) as client:
        assert all_of(client) == b""


def test_a_body_that_never_ends_is_timed_out(server: Live) -> None:
    with connect(server) as client:
        client.sendall(head_of(server, "/v1/chat/completions", 1000) + b'{"model"')
        status, error = refusal(all_of(client))
    assert (status, error["code"]) == (408, "request_timeout")
    with connect(server) as client:  # piece by piece, and never done
        client.sendall(head_of(server, "/v1/files", 100_000, "multipart/form-data; boundary=x"))
        began = time.monotonic()
        while time.monotonic() - began < 8:
            try:
                client.sendall(b"--x\r\n")
            except OSError:
                break
            time.sleep(0.1)
        assert time.monotonic() - began < 6


def test_a_body_that_nobody_wants_does_not_hold_its_connection(server: Live) -> None:
    with connect(server) as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 8:
            try:
                client.sendall(b"x")
            except OSError:
                break
            time.sleep(0.05)
        assert time.monotonic() - began < 6


def test_a_stream_that_nobody_reads_is_cut_off_and_its_place_is_free(server: Live) -> None:
    body = {"model": BASE, "messages": HELLO, "max_tokens": 480, "n": 8, "stream": True, "logprobs": True}
    content = json.dumps({**body, "top_logprobs": 20, "temperature": 2}).encode()
    with connect(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.sendall(head_of(server, "/v1/chat/completions", len(content)) + content)
        deadline = time.monotonic() + 30
        while _in_flight(server) != 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while _in_flight(server):
            assert time.monotonic() < deadline, "a client that does not read holds its place"
            time.sleep(0.1)


def _in_flight(server: Live) -> float:
    text = httpx2.get(f"{server.url}/metrics").text
    return float(next(x for x in text.splitlines() if x.startswith("tunery_requests_in_flight ")).split()[1])


def test_too_many_connections_are_told_when_to_come_again(server: Live) -> None:
    crowd = [connect(server) for _ in range(LIMITS.max_connections)]
    try:
        with connect(server) as one_more:
            status, error = refusal(all_of(one_more))
        assert (status, error["code"]) == (503, "resource_exhausted")
    finally:
        for client in crowd:
            client.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert httpx2.get(f"{server.url}/health").status_code == 200
            break
        except (httpx2.HTTPError, AssertionError):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 5000,
        b"GET /" + b"x" * 5000,
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"9" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
        b"nonsense\r\n\r\n",
    ],
    ids=["header", "path", "length", "negative", "chunk", "gzip", "TLS", "words"],
)
def test_what_is_no_http_is_answered_in_openais_shape(server: Live, request_: bytes) -> None:
    with connect(server) as client:
        client.sendall(request_)
        status, _ = refusal(all_of(client))
    assert status in (400, 401)


MANY = b"1," * 60_000 + b"1"
CROWDED = {
    "objects": b'{"model": "m", "prompt": [' + b"{}," * 60_000 + b"{}]}",
    "lists": b'{"model": "m", "prompt": [' + b"[]," * 60_000 + b"[]]}",
    "fractions": b'{"model": "m", "prompt": [' + b"1.5," * 60_000 + b"1]}",
    "texts": b'{"model": "m", "prompt": [' + b'"",' * 60_000 + b'""]}',
    "unknown names": b'{"model": "m", ' + b",".join(b'"k%d": 1' % i for i in range(60_000)) + b"}",
    "one name twice": b"{" + b",".join(b'"k%d": 1' % (i % 40_000) for i in range(40_001)) + b"}",
    "parts": b'{"model": "m", "messages": [{"role": "user", "content": [' + MANY + b"]}]}",
    "stops": b'{"model": "m", "messages": [], "stop": [' + MANY + b"]}",
    "few unknown names": b'{"model": "m", ' + b",".join(b'"k%d": 1' % i for i in range(9_000)) + b"}",
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/fine_tuning/jobs"])
@pytest.mark.parametrize("body", CROWDED)
def test_a_body_full_of_values_is_refused_in_few_words(server: Live, body: str, path: str) -> None:
    began = time.process_time()
    told = server.call("POST", path, CROWDED[body])
    assert told.status == 400
    assert len(told.text) < 10_000
    assert time.process_time() - began < 3


@pytest.mark.parametrize("digits", ["9" * 5_000, "-1", "1e3", "٣", "", "0x10"])
def test_numbers_in_headers_and_queries_never_break_the_server(server: Live, digits: str) -> None:
    with server.http() as http:
        for header in ("x-stainless-retry-count", "x-stainless-timeout", "range", "if-none-match"):
            value = (f"bytes=0-{digits}" if header == "range" else digits).encode()[:3500]
            answer = http.post("/v1/fine_tuning/jobs", json={"model": "x"}, headers={header: value})
            assert answer.status_code < 500, answer.text
        for path in ("files", "fine_tuning/jobs", "chat/completions", "feedback"):
            for name in ("limit", "after", "order", "metadata[a]", "purpose"):
                answer = http.get(f"/v1/{path}", params={name: digits[:3500]})
                assert answer.status_code < 500, answer.text


def test_a_retry_count_of_5000_digits_is_no_count(server: Live) -> None:
    from tunery.api.services import count_in

    assert count_in("9" * 5_000) == 0
    assert count_in("2") == 2


def test_bodies_in_memory_are_bounded_all_together(server: Live) -> None:
    large = json.dumps({"model": BASE, "prompt": "x" * 1_200_000}).encode()
    with connect(server) as first:
        first.sendall(head_of(server, "/v1/completions", len(large)) + large[:-1])
        time.sleep(0.2)
        with connect(server) as second:
            second.sendall(head_of(server, "/v1/completions", len(large)) + large)
            status, error = refusal(whole(second))
        assert status == 503
        assert "connections.max_buffered_bytes" in error["message"]
        first.sendall(large[-1:])
        assert b"400 Bad Request" in first.recv(65_536)
    with server.http() as http:
        assert http.post("/v1/completions", content=large).status_code == 400, "what was held is given back"


def test_four_prompts_of_ten_megabytes_are_refused_at_once_and_keep_no_memory(
    workspace: Workspace, tiny_model: Path
) -> None:
    with live(workspace, tiny_model) as server, server.http() as http:
        small = {"model": BASE, "messages": HELLO, "max_tokens": 1}
        assert http.post("/v1/chat/completions", json=small).status_code == 200
        prompt = "The quick brown fox. " * 500_000
        chat = json.dumps({"model": BASE, "messages": [{"role": "user", "content": prompt}]}).encode()
        plain = json.dumps({"model": BASE, "prompt": prompt}).encode()
        before = psutil.Process().memory_info().rss

        def ask(path: str, body: bytes) -> httpx2.Response:
            return httpx2.post(
                f"{server.url}{path}",
                content=body,
                headers={"Authorization": f"Bearer {server.secret}", "Content-Type": "application/json"},
                timeout=60,
            )

        with ThreadPoolExecutor(4) as pool:
            work = [
                pool.submit(ask, path, body)
                for path, body in (("/v1/chat/completions", chat), ("/v1/completions", plain)) * 2
            ]
            answers = [w.result() for w in work]
        for answer in answers:
            assert answer.status_code == 400, answer.text[:300]
            assert "context window" in answer.json()["error"]["message"]
        assert psutil.Process().memory_info().rss - before < 600e6


BLANK = gzip.compress(b"\n" * 8_000_000)


@pytest.mark.parametrize(
    ("content", "setting"),
    [
        (BLANK, "uploads.max_rows"),
        (b"\n" * 6_000, "uploads.max_rows"),
        (gzip.compress((b" " * 999 + b"\n") * 4_000), "uploads.max_unpacked_bytes"),
    ],
    ids=["packed blank lines", "blank lines", "packed blanks"],
)
def test_an_upload_over_a_budget_is_refused_with_the_settings_name(
    server: Live, content: bytes, setting: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=setting):
        server.client().files.create(file=("rows.jsonl", content), purpose="fine-tune")
    assert server.workspace.files.list() == []


def test_a_file_that_is_checked_in_a_process_of_its_own_is_as_good_as_another(server: Live) -> None:
    content = rows(2_000)
    made = server.client().files.create(file=("rows.jsonl", content), purpose="fine-tune")
    assert made.bytes == len(content) > 2 * 2**16
    server.client().files.delete(made.id)
    spoiled = content.replace(b'"card 700"', b"7")
    with pytest.raises(openai.BadRequestError, match="row 701"):
        server.client().files.create(file=("rows.jsonl", spoiled), purpose="fine-tune")


def test_uploads_over_the_limit_are_told_when_to_come_again(server: Live) -> None:
    with connect(server) as first:
        first.sendall(head_of(server, "/v1/files", 1000, "multipart/form-data; boundary=x") + b"--x\r\n")
        time.sleep(0.2)
        with server.http() as http:
            form = {"file": ("a.jsonl", rows(10))}
            answer = http.post("/v1/files", data={"purpose": "fine-tune"}, files=form)
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["type"] == "rate_limit_error"
            assert "uploads.at_once" in answer.json()["error"]["message"]
            assert http.get("/v1/files").status_code == 200
        all_of(first)
    # The client comes again by itself.
    made = server.client(retries=5).files.create(file=("a.jsonl", rows(10)), purpose="fine-tune")
    assert made.status == "processed"


def test_a_check_takes_its_seconds_and_ends_with_its_server(workspace: Workspace, tiny_model: Path) -> None:
    heavy = gzip.compress(b"\n" * 64_000_000)
    checks = CheckSettings(max_rows=10**9, max_seconds=600)
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), uploads=checks, grace_s=10)
    answers: list[httpx2.Response] = []
    with live(workspace, tiny_model, settings=settings) as server:

        def upload() -> None:
            with server.http() as http:
                form = {"file": ("a.jsonl.gz", heavy)}
                answers.append(http.post("/v1/files", data={"purpose": "fine-tune"}, files=form))

        threads = [threading.Thread(target=upload) for _ in range(3)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while len(_checks()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert httpx2.get(f"{server.url}/health").status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < 8
    for thread in threads:
        thread.join()
    assert [a.status_code for a in answers] == [503] * 3
    assert all("retry-after" in a.headers and "shutting down" in a.text for a in answers)
    assert _checks() == []
    assert workspace.files.list() == []


def _checks() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [c for c in children if "tunery.pipeline.jobs.file_check" in " ".join(c.cmdline())]


def test_health_keys_and_completions_wait_for_no_other_route(
    workspace: Workspace, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every thread that there is for blocking routes blocks, and what must not wait for them does not."""
    blocked, go_on = threading.Semaphore(0), threading.Event()
    real = files.page_of

    def block(*given: Any, **named: Any) -> Any:
        blocked.release()
        go_on.wait(30)
        return real(*given, **named)

    with live(workspace, tiny_model) as server, ThreadPoolExecutor(40) as pool:
        ask = {"model": BASE, "prompt": "a", "max_tokens": 1}
        assert server.call("POST", "/v1/completions", ask).status == 200
        monkeypatch.setattr(files, "page_of", block)
        crowd = [pool.submit(server.call, "GET", "/v1/files") for _ in range(40)]
        try:
            for _ in crowd:
                assert blocked.acquire(timeout=20)
            began = time.monotonic()
            assert server.call("GET", "/health").status == 200
            assert server.call("POST", "/v1/completions", ask, Authorization="Bearer tk-no").status == 401
            assert server.call("POST", "/v1/completions", ask).status == 200
            assert time.monotonic() - began < 10
        finally:
            go_on.set()
        assert all(c.result().status == 200 for c in crowd)
