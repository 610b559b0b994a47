"""A mock upstream, a gateway in front of it and requests to that: what benchmarks of the gateway share.

python benchmarks/gateway_load.py PORT     # serves the mock upstream
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ANSWER = " card arrival"
CHUNKS = 20
GATEWAY_CORE, LOAD_CORE = "0", "1"


# The mock upstream: OpenAI's completions and chat completions, answered at once.


def _completion(kind: str, *, text: str) -> bytes:
    chat = kind == "chat"
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None}
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    usage = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
    name = "chat.completion" if chat else "text_completion"
    body = {"id": "c-1", "object": name, "created": 0, "model": "mock", "choices": [choice], "usage": usage}
    return json.dumps(body).encode()


def _stream(kind: str, *, chunks: int) -> bytes:
    chat = kind == "chat"
    name = "chat.completion.chunk" if chat else "text_completion"
    parts = []
    for place in range(chunks):
        last = place == chunks - 1
        choice: dict[str, object] = {"index": 0, "finish_reason": "stop" if last else None, "logprobs": None}
        choice |= {"delta": {"content": " a"}} if chat else {"text": " a", "token_ids": [64]}
        parts.append({"id": "c-1", "object": name, "created": 0, "model": "mock", "choices": [choice]})
    usage = {"prompt_tokens": 20, "completion_tokens": chunks, "total_tokens": 20 + chunks}
    parts.append({**parts[0], "choices": [], "usage": usage})
    lines = [f"data: {json.dumps(part)}\n\n" for part in parts]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()


_WHOLE = {kind: _completion(kind, text=ANSWER) for kind in ("chat", "text")}
_ONE = {kind: _stream(kind, chunks=1) for kind in ("chat", "text")}
_MANY = {kind: _stream(kind, chunks=CHUNKS) for kind in ("chat", "text")}
_MODELS = json.dumps(
    {
        "object": "list",
        "data": [{"id": "mock", "object": "model", "created": 0, "owned_by": "m", "max_model_len": 512}],
    }
).encode()


class MockUpstream(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, no more of it than the two proxies use.

    A prompt with ``max_tokens`` of 20 or more is answered in 20 chunks, any other in one.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out = transport
        self._got = b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            head = self._got[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._got) < end + 4 + size:
                return
            body, self._got = self._got[end + 4 : end + 4 + size], self._got[end + 4 + size :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        kind, content = b"application/json", _MODELS
        if head.startswith(b"post"):
            asked = json.loads(body)
            shape = "chat" if b"/chat/" in head.split(b"\r\n", 1)[0] else "text"
            if asked.get("stream"):
                kind = b"text/event-stream"
                content = (_MANY if (asked.get("max_tokens") or 0) >= CHUNKS else _ONE)[shape]
            else:
                content = _WHOLE[shape]
        self._out.write(  # type: ignore[attr-defined]
            b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ncontent-length: "
            + str(len(content)).encode() + b"\r\n\r\n" + content
        )  # fmt: skip


def mock_command(port: int) -> list[str]:
    """Return the command of a mock upstream at a port."""
    return [sys.executable, str(Path(__file__)), str(port)]


async def serve_mock(port: int) -> None:
    """Answer at a port until the process ends."""
    server = await asyncio.get_running_loop().create_server(MockUpstream, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


class Peer(NamedTuple):
    """What is loaded."""

    name: str
    url: str
    key: str
    model: str
    process: int
    """Its process id."""


async def send_one(
    peer: Peer,
    host: str,
    port: int,
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    body: bytes,
) -> int:
    """Send one request over a pooled connection and read its answer to the end; return its status."""
    reader, writer = free.pop() if free else await asyncio.open_connection(host, port)
    path = peer.url.split(f":{port}", 1)[1] + "/chat/completions"
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {peer.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    else:
        await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
    free.append((reader, writer))
    return int(head.split(b" ", 2)[1])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(url: str, key: str = "", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=2):
            return
        time.sleep(0.2)
    raise SystemExit(f"{url} did not answer in {seconds:.0f} s")


@contextlib.contextmanager
def running(
    command: Sequence[str], core: str, log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["taskset", "-c", core, *command],
            stdout=out,
            stderr=out,
            env={**os.environ, **(env or {})},
            cwd=ROOT,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


@contextlib.contextmanager
def gateway(
    folder: Path, upstream: int | None, settings: Sequence[str], *, name: str = "mock"
) -> Iterator[Peer]:
    """Start ``tunery serve`` in front of the upstream, keys on; without one, its embedded engine.

    Args:
        folder: Where its home is made, ``home``, and its base, if it is not there yet.
        name: Of its base.
    """
    sys.path.insert(0, str(ROOT))
    from tests.tiny.build import build_tiny

    base = folder / name
    if not base.exists():
        build_tiny(base)
    tunery, home, port = str(Path(sys.executable).with_name("tunery")), str(folder / "home"), free_port()
    made = subprocess.run(
        [tunery, "--home", home, "keys", "create", "load", "--json"], capture_output=True, check=True
    )
    key = json.loads(made.stdout)["secret"]
    engine = [
        "engine.kind=upstream",
        f"engine.base_url=http://127.0.0.1:{upstream}/v1",
        "engine.dialect=vllm",
    ]
    if upstream is None:
        engine = []
    command = [
        tunery,
        "--home",
        home,
        "serve",
        "--port",
        str(port),
        "--base",
        str(base),
        "run_jobs=false",
        *engine,
    ]
    with running([*command, *settings], GATEWAY_CORE, folder / "gateway.log") as process:
        wait_for(f"http://127.0.0.1:{port}/health/live")
        yield Peer("tunery", f"http://127.0.0.1:{port}/v1", key, name, process.pid)


def processor_s(process: int) -> float:
    """Return the processor time that a process and its threads have taken [s]."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    asyncio.run(serve_mock(int(sys.argv[1])))
