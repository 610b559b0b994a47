"""A fault at any step of a request leaves no place taken, no thread and no file; the next one is answered."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http import h11_impl

from tests.integration.live_api import BASE, Live, live
from tunery.api import answering
from tunery.api.config import ServerSettings
from tunery.api.routes import generate
from tunery.pipeline.gateway import answer, gateway, start
from tunery.pipeline.gateway.log import RequestLog
from tunery.serve.engines.embedded.decoder import Decoder
from tunery.store.workspace import Workspace

Patch = pytest.MonkeyPatch
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": BASE,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 8,
        "temperature": 2,
        "seed": 1,
    },
    "/v1/completions": {"model": BASE, "prompt": "One two", "max_tokens": 8, "temperature": 2, "seed": 1},
}
POOLS = ("start", "hand-over", "look-up", "AnyIO", "asyncio_", "ThreadPool")
"""Threads that pools keep for the next request."""


class Fault(Exception):  # noqa: N818 - not an error of ours
    """What no code expects."""


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("home")
    workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), max_in_flight=2)
    with live(workspace, tiny_model, settings=settings) as running:
        for path, body in BODIES.items():
            assert running.call("POST", path, body).status == 200
        yield running
    workspace.close()


def raising(error: BaseException, *, after: int = 0) -> Callable[..., Any]:
    """Return a function that raises, once it was called so many times."""
    calls = 0

    def fail(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error

    return fail


def in_render(patch: Patch, live: Live) -> None:
    def fail(routed: start.RoutedCall) -> None:
        raise Fault

    patch.setattr(start.RoutedCall, "messages", property(fail))
    patch.setattr(start, "_request", raising(Fault()))


def in_tokenising(patch: Patch, live: Live) -> None:
    tokenizer = live.bases.get(live.bases.default).tokenizer
    patch.setattr(tokenizer, "encode", raising(Fault()))
    patch.setattr(tokenizer, "render_prompt", raising(Fault()))


def in_submitting(patch: Patch, live: Live) -> None:
    patch.setattr(live.bases.get(live.bases.default).engine, "submit", raising(Fault()))


def without_memory(patch: Patch, live: Live) -> None:
    patch.setattr(live.bases.get(live.bases.default).engine, "submit", raising(MemoryError()))


def at_a_token(patch: Patch, live: Live) -> None:
    real = Decoder._accept

    def fail(self: Decoder, row: Any, token: int, logits: Any) -> None:
        if len(row.generated) >= 2:
            raise Fault
        real(self, row, token, logits)

    patch.setattr(Decoder, "_accept", fail)


def in_writing_out(patch: Patch, live: Live) -> None:
    for name in ("chat", "completions"):
        for made in ("completion_of", "text_completion", "text_chunk"):
            if hasattr(getattr(generate, name), made):
                patch.setattr(getattr(generate, name), made, raising(Fault()))


def in_building_the_record_once(patch: Patch, live: Live) -> None:
    real, failed = answer.record_of, []

    def fail(*given: Any, **named: Any) -> Any:
        if not failed:
            failed.append(True)
            raise Fault
        return real(*given, **named)

    patch.setattr(answer, "record_of", fail)
    patch.setattr(gateway, "record_of", fail)


def in_building_every_record(patch: Patch, live: Live) -> None:
    patch.setattr(answer, "record_of", raising(Fault()))
    patch.setattr(gateway, "record_of", raising(Fault()))


def in_writing_the_record(patch: Patch, live: Live) -> None:
    patch.setattr(RequestLog, "write", raising(Fault()))


def in_sending_the_first_byte(patch: Patch, live: Live) -> None:
    real, failed = h11_impl.RequestResponseCycle.send, []

    async def fail(self: Any, message: Any) -> None:
        if not failed:
            failed.append(True)
            raise OSError("broken pipe")
        await real(self, message)

    patch.setattr(h11_impl.RequestResponseCycle, "send", fail)


def in_sending_the_rest(patch: Patch, live: Live) -> None:
    real = h11_impl.RequestResponseCycle.send

    async def fail(self: Any, message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("broken pipe")
        await real(self, message)

    patch.setattr(h11_impl.RequestResponseCycle, "send", fail)


def cancelled(patch: Patch, live: Live) -> None:
    """The task of the request is cancelled while the engine is at work for it."""

    async def cancel(self: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    async def cancel_stream(self: Any) -> Any:
        await cancel(self)
        yield

    patch.setattr(answer.Running, "finish", cancel)
    patch.setattr(answer.Running, "stream", cancel_stream)


def generator_exit(patch: Patch, live: Live) -> None:
    async def leave(self: Any) -> Any:
        raise GeneratorExit
        yield

    patch.setattr(answer.Running, "finish", raising(GeneratorExit()))
    patch.setattr(answer.Running, "stream", leave)


def before_the_response(patch: Patch, live: Live) -> None:
    patch.setattr(generate, "StreamingResponse", raising(Fault()))
    patch.setattr(answering, "JSONResponse", raising(Fault()))


FAULTS = [
    in_render,
    in_tokenising,
    in_submitting,
    without_memory,
    at_a_token,
    in_writing_out,
    in_building_the_record_once,
    in_building_every_record,
    in_writing_the_record,
    in_sending_the_first_byte,
    in_sending_the_rest,
    cancelled,
    generator_exit,
    before_the_response,
]


def held(server: Live) -> tuple[float, Counter[str], Counter[str]]:
    """Return calls in flight, threads that are no pool's, and open files that are no pool's."""
    text = server.call("GET", "/metrics").text
    line = next(x for x in text.splitlines() if x.startswith("tunery_requests_in_flight "))
    threads = Counter(t.name for t in threading.enumerate() if not t.name.startswith(POOLS))
    return float(line.split()[1]), threads, open_files()


def open_files() -> Counter[str]:
    """Count this process's open files by what they are.

    Without those of the database's pool and the segments of the request journal, which come and go with time.
    """
    files: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            target = os.readlink(f"/proc/self/fd/{number}")
            if not Path(target).name.startswith("tunery.db") and Path(target).suffix != ".log":
                files[target.partition(":[")[0]] += 1
    return files


@contextlib.contextmanager
def nothing_is_left(server: Live) -> Iterator[None]:
    """Expect the same as before once the block is over, and two answers at the same time as ever."""
    before = held(server)
    yield
    deadline = time.monotonic() + 15
    while True:
        gc.collect()  # an exception's frames hold each other
        in_flight, threads, files = held(server)
        if in_flight == 0 and threads <= before[1] and files <= before[2]:
            break
        assert time.monotonic() < deadline, (before, (in_flight, threads, files))
        time.sleep(0.02)
    for path, body in BODIES.items():
        assert server.call("POST", path, {**body, "max_tokens": 2}).status == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_nothing_behind(
    server: Live, fault: Callable[[Patch, Live], None], path: str, stream: bool, monkeypatch: Patch
) -> None:
    broken = (HTTPException, OSError)
    with nothing_is_left(server), contextlib.suppress(*broken), monkeypatch.context() as patch:
        fault(patch, server)
        answered = server.call("POST", path, {**BODIES[path], "stream": stream})
        if answered.status == 200 and stream:
            last = answered.text.rstrip().splitlines()[-1].removeprefix("data: ")
            assert last == "[DONE]" or set(json.loads(last)) == {"error"}
        elif answered.status != 200 and fault is not generator_exit:
            assert set(answered.json()) == {"error"}
            assert "retry-after" in answered.headers or answered.status == 500


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("when", ["at once", "in the middle", "in the body", "by a reset"])
def test_a_client_that_leaves_leaves_nothing_behind(server: Live, when: str, path: str, stream: bool) -> None:
    body = json.dumps({**BODIES[path], "stream": stream, "max_tokens": 450}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    port = int(server.url.rpartition(":")[2])
    with nothing_is_left(server), socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head + (body[:20] if when == "in the body" else body))
        if when == "in the middle" and stream:
            client.recv(10)
        if when == "by a reset":
            time.sleep(0.03)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_more_calls_than_may_be_in_flight_are_told_when_to_come_again(server: Live) -> None:
    body = {**BODIES["/v1/completions"], "max_tokens": 450, "stream": True}
    with nothing_is_left(server), server.http() as http:
        with (
            http.stream("POST", "/v1/completions", json=body) as first,
            http.stream("POST", "/v1/completions", json=body) as second,
        ):
            assert first.status_code == second.status_code == 200
            refused = server.call("POST", "/v1/completions", body)
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "server_overloaded"
