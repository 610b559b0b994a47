"""Killing the gateway in its traffic takes no record of an answered request but what a setting allows.

With ``log.sync=true`` that is nothing: who has read the end of an answer finds its record. Without, it is
what was answered in the last moments: records gather for 10 ms before they are journalled, and a busy machine
is given a second. The server is killed by the thread that has just read an answer, before anything else.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.lifecycle.test_server_killed import BASE, serving
from tunery.store.workspace import Workspace

ANSWERS = 200
"""Answered before the kill at least [count]."""
LAST_S = 1.0
"""Answered so long before the kill, a call is recorded whatever the settings [s]."""
HELLO = [{"role": "user", "content": "hello"}]


def chat(client: OpenAI) -> str:
    return client.chat.completions.create(model=BASE, messages=HELLO, max_tokens=2).id  # type: ignore[arg-type]


def streamed(client: OpenAI) -> str:
    chunks = client.chat.completions.create(model=BASE, messages=HELLO, max_tokens=2, stream=True)  # type: ignore[call-overload]
    return [chunk.id for chunk in chunks][-1]


def completion(client: OpenAI) -> str:
    return client.completions.create(model=BASE, prompt="hello", max_tokens=2).id


def response(client: OpenAI) -> str:
    return client.responses.create(model=BASE, input="hello", max_output_tokens=2).id


KINDS: tuple[Callable[[OpenAI], str], ...] = (chat, streamed, completion, response)


class Traffic:
    """Threads that ask without a pause, one a kind of request, until the server is gone."""

    def __init__(self, client: OpenAI, pid: int) -> None:
        self.client = client.with_options(max_retries=0)
        self.pid = pid
        self.answered: dict[str, float] = {}
        """Call to when its answer had been read to the end, by ``time.monotonic`` [s]."""
        self.is_enough = False
        """Whether the next answer is the last."""

    def ask(self, kind: Callable[[OpenAI], str]) -> int:
        count = 0
        while True:
            try:
                id = kind(self.client)
            except (openai.APIError, OSError, httpx2.TransportError):
                return count
            if self.is_enough:
                os.kill(self.pid, signal.SIGKILL)
            self.answered[id] = time.monotonic()
            count += 1


@pytest.fixture(params=["log.sync=true", "log.sync=false"])
def killed(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path
) -> Iterator[tuple[set[str], Path]]:
    """Kill a server in its traffic, and start another; yields the calls that must be there, and the home."""
    home = tmp_path / "home"
    with serving(home, tiny_model, None, request.param, "run_jobs=false") as first:
        secret = first.client.api_key
        traffic = Traffic(first.client, first.process.pid)
        with ThreadPoolExecutor(len(KINDS)) as pool:
            counts = [pool.submit(traffic.ask, kind) for kind in KINDS]
            deadline = time.monotonic() + 60
            while len(traffic.answered) < ANSWERS:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(LAST_S)
            traffic.is_enough = True
            assert all(count.result(30) for count in counts), "a kind of request was never answered"
        at = max(traffic.answered.values())
        first.process.kill()
    until = float("inf") if request.param.endswith("true") else at - LAST_S
    with serving(home, tiny_model, secret, "run_jobs=false") as second:
        list(second.client.chat.completions.list())  # all that was served is in the database then
        yield {id for id, answered_at in traffic.answered.items() if answered_at <= until}, home


@pytest.mark.slow
def test_every_answered_request_has_its_record_once_after_a_kill(killed: tuple[set[str], Path]) -> None:
    answered, home = killed
    assert len(answered) >= ANSWERS
    workspace = Workspace.open(home, database_url=f"sqlite:///{home}/tunery.db")
    recorded = [row["id"] for row in workspace.database.rows("SELECT id FROM requests")]
    workspace.close()
    assert answered - set(recorded) == set()
    assert len(recorded) == len(set(recorded))
