"""SIGTERM ends a server within its grace time, whatever runs, and everybody is told."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.integration.test_cli_serve import tunery

GRACE_S = 8.0


@pytest.mark.slow
def test_everything_that_runs_is_ended_in_time_and_told(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ("--port", 0, "--base", tiny_model, f"grace_s={GRACE_S}", "uploads.max_rows=1000000000")
    with tunery(tmp_path / "home", "serve", *arguments, "engine.max_batch=1", "--json") as server:
        try:
            assert server.stdout is not None
            assert server.stderr is not None
            key = server.stderr.readline().strip().rpartition(" ")[2]
            url = json.loads("".join(server.stdout.readline() for _ in range(4)))["url"]
            told = _work(url, key, server.pid)
            began = time.monotonic()
            server.send_signal(signal.SIGTERM)
            _, said = server.communicate(timeout=GRACE_S + 20)
            took = time.monotonic() - began
        finally:
            server.kill()
    assert server.returncode == 143
    assert took < GRACE_S + 3, said
    assert "Traceback" not in said
    assert "the server has ended; jobs that were queued or running go on" in said
    for thread in told.threads:
        thread.join(10)
    for client in told.kept:
        client.close()
    answers = told.answers
    assert answers["upload"].status_code == 503
    assert answers["whole"].status_code == 503
    for name in ("upload", "whole"):
        assert set(answers[name].json()["error"]) == {"message", "type", "param", "code"}
        assert int(answers[name].headers["retry-after"]) >= 1
    events = [e for e in answers["stream"].text.split("\n\n") if e]
    last = json.loads(events[-1].removeprefix("data: "))
    assert last["error"]["message"].startswith("the server is shutting down")
    assert len(events) > 2


class _Told:
    """What clients heard, by name."""

    def __init__(self) -> None:
        self.answers: dict[str, httpx2.Response] = {}
        self.threads: list[threading.Thread] = []
        self.kept: list[socket.socket] = []


def _work(url: str, key: str, pid: int) -> _Told:
    """Start an upload whose check takes minutes, answers that take too long, and a reader of nothing."""
    told, headers = _Told(), {"Authorization": f"Bearer {key}"}
    base = httpx2.get(f"{url}/models", headers=headers).json()["data"][0]["id"]
    first = {"model": base, "prompt": "a", "max_tokens": 1}
    assert httpx2.post(f"{url}/completions", json=first, headers=headers, timeout=60).status_code == 200
    endless: dict[str, Any] = {
        "model": base,
        "prompt": ["a b", "c d", "e f", "g h"] * 16,
        "max_tokens": 500,
        "n": 2,
        "temperature": 2,
    }
    heavy = gzip.compress(b"\n" * 200_000_000, 6)
    asks = {
        "stream": lambda: httpx2.post(
            f"{url}/completions", json={**endless, "stream": True}, headers=headers, timeout=60
        ),
        "whole": lambda: httpx2.post(f"{url}/completions", json=endless, headers=headers, timeout=60),
        "upload": lambda: httpx2.post(
            f"{url}/files",
            data={"purpose": "fine-tune"},
            files={"file": ("a.jsonl.gz", heavy)},
            headers=headers,
            timeout=60,
        ),
    }

    def ask(name: str) -> None:
        told.answers[name] = asks[name]()

    for name in asks:
        thread = threading.Thread(target=ask, args=(name,), daemon=True)
        thread.start()
        told.threads.append(thread)
        while name == "stream" and not _in_flight(url):  # it is the one that is being computed
            time.sleep(0.02)
    _rude_reader(told, url, key, {**endless, "stream": True})
    deadline = time.monotonic() + 60
    while not (_is_checking(pid) and _in_flight(url) >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    return told


def _rude_reader(told: _Told, url: str, key: str, body: dict[str, Any]) -> None:
    """Ask for a stream and never read it; the socket stays open as long as this process."""
    content = json.dumps(body).encode()
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )
    told.kept.append(client)


def _is_checking(pid: int) -> bool:
    children = psutil.Process(pid).children(recursive=True)
    return any("tunery.pipeline.jobs.file_check" in " ".join(c.cmdline()) for c in children)


def _in_flight(url: str) -> float:
    text = httpx2.get(f"{url.removesuffix('/v1')}/metrics").text
    return float(next(x for x in text.splitlines() if x.startswith("tunery_requests_in_flight ")).split()[1])
