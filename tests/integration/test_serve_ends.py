"""A server process that is ended while its queue is full: by SIGTERM, in order and in time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tunery.store.workspace import Workspace

CALLS, GRACE_S = 40, 6.0


class Served:
    """``tunery serve`` as a process, and a thread for each of its calls."""

    def __init__(self, process: subprocess.Popen[str], url: str, key: str) -> None:
        self.process, self.url, self.key = process, url, key
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self._threads: list[threading.Thread] = []

    def send(self, count: int, tokens: int) -> None:
        """Begin ``count`` calls at once."""
        self._threads = [threading.Thread(target=self._call, args=(tokens,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def ended(self) -> None:
        """Return when every call has ended, however."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _call(self, tokens: int) -> None:
        body = {"model": "tiny-llama", "prompt": "one two", "max_tokens": tokens, "ignore_eos": True}
        request = Request(f"{self.url}/completions", json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "application/json")
        try:
            with urlopen(request, timeout=60) as answer:
                self.answers.append((200, dict(answer.headers), answer.read().decode()))
        except HTTPError as error:
            with error:
                headers = {name.lower(): value for name, value in error.headers.items()}
                self.answers.append((error.code, headers, error.read().decode()))
        except (OSError, HTTPException):
            self.answers.append((0, {}, ""))


@contextmanager
def serving(base: Path, *settings: str) -> Iterator[Served]:
    """Serve until the block ends, with a key that its start has shown."""
    command = [
        sys.executable,
        "-m",
        "tunery",
        "serve",
        "--port",
        "0",
        "--base",
        str(base),
        "--json",
        *settings,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            key = process.stderr.readline().strip().rpartition(" ")[2]
            url = json.loads("".join(process.stdout.readline() for _ in range(4)))["url"]
            yield Served(process, url, key)
        finally:
            process.kill()
            process.communicate()


def recorded(home: Path) -> list[str]:
    """Return the ids of all calls that the log has."""
    with closing(Workspace.open(home)) as workspace:
        return [call.id for call in workspace.requests.list(limit=1000)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNERY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TUNERY_DATABASE_URL", raising=False)
    return tmp_path / "home"


@pytest.mark.slow  # a process of its own, and its grace time
def test_sigterm_with_a_full_queue_ends_in_time_and_every_answer_is_recorded(
    home: Path, tiny_model: Path
) -> None:
    with serving(tiny_model, f"grace_s={GRACE_S}", "max_in_flight=24") as served:
        served.send(1, 1)  # opens the engine
        served.ended()
        served.send(CALLS, 60)
        deadline = time.monotonic() + 20
        while not any(status == 503 for status, _, _ in served.answers):
            assert time.monotonic() < deadline, [(s, t[:150]) for s, _, t in served.answers[:2]]
            time.sleep(0.01)
        served.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        served.ended()
        _, written = served.process.communicate(timeout=60)
        took = time.monotonic() - began
    assert took < GRACE_S + 3
    assert served.process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in written
    refused = [headers for status, headers, _ in served.answers if status == 503]
    assert len(served.answers) == CALLS + 1
    assert {status for status, _, _ in served.answers} <= {200, 503}
    assert all(int(headers["retry-after"]) >= 1 for headers in refused)
    answered = {json.loads(text)["id"] for status, _, text in served.answers if status == 200}
    assert len(answered) > 1, "answers that run may end"
    assert answered <= set(recorded(home))
