"""Measure the gateway against LiteLLM's proxy in front of the same mock upstream, in the same run.

    python benchmarks/gateway_vs_litellm.py --litellm VENV/bin/litellm [--rounds 3] [--seconds 10]

The gateway has one core (0), the load generator and the mock upstream the other (1). Load is open-loop:
requests begin when a Poisson process says so, and a latency counts from that moment, so that a slow server
cannot slow its own load down. Both proxies check a key, keep their default logging and pool connections;
the gateway here also renders the chat template, tokenises, counts limits, masks personal data and journals
every call.

Prints, as the median of the rounds with the range:

* the highest rate [requests/s] at which p99 stays under 50 ms and no request fails, of both, and their ratio;
* latency added to that of the upstream alone at 100 requests/s [ms], p50 and p99;
* streams of 20 chunks finished per second [streams/s], at p99 of their end under 50 ms;
* processor time of the proxy for one request and for one stream [ms], which busy neighbours disturb least.

Without ``--litellm`` only the gateway is measured. LiteLLM belongs into a virtual environment of its own:
``pip install 'litellm[proxy]'``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ANSWER = " card arrival"
CHUNKS = 20
P99_MS = 50.0
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


async def serve_mock(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(MockUpstream, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


# The load.


class Figures(NamedTuple):
    """What one stretch of load came to."""

    done_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


class Peer(NamedTuple):
    """What is loaded."""

    name: str
    url: str
    key: str
    model: str
    process: int
    """Its process id."""


async def _one(
    peer: Peer,
    host: str,
    port: int,
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    body: bytes,
) -> bool:
    """Send one request over a pooled connection and read its answer to the end; True where it is a 200."""
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
    return head.startswith(b"http/1.1 200")


async def load(peer: Peer, *, rate: float, seconds: float, stream: bool, seed: int = 0) -> Figures:
    """Load a peer open-loop for some seconds.

    Args:
        rate: Requests begun per second, by a Poisson process.
    """
    host, port = "127.0.0.1", int(peer.url.split(":")[2].split("/")[0])
    asked = {
        "model": peer.model,
        "messages": [{"role": "user", "content": "When will my card arrive?"}],
        "max_tokens": CHUNKS if stream else 8,
        **({"stream": True} if stream else {}),
    }
    body = json.dumps(asked).encode()
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    took: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        try:
            good = await asyncio.wait_for(_one(peer, host, port, free, body), 30)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            good = False
        failed += not good
        took.append((time.perf_counter() - due) * 1000)

    draw, begin = random.Random(seed), time.perf_counter()
    due, tasks = begin, []
    while due < begin + seconds:
        due += draw.expovariate(rate)
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    spent = time.perf_counter() - begin
    for _, writer in free:
        writer.close()
    took.sort()
    return Figures(
        len(took) / spent, took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))], failed
    )


def highest_rate(peer: Peer, *, seconds: float, stream: bool, start: float, most: float = 4000) -> float:
    """Return the highest rate a peer bears: doubled until it does not, then halved in on to 5 %."""

    def bears(rate: float) -> bool:
        found = asyncio.run(load(peer, rate=rate, seconds=seconds, stream=stream))
        time.sleep(0.5)
        return found.failed == 0 and found.p99_ms < P99_MS

    low, high = 0.0, start
    while bears(high) and high < most:
        low, high = high, high * 1.5
    while low == 0.0 and high > 2:
        high /= 1.5
        if bears(high):
            low, high = high, high * 1.5
    while high / max(low, 1) > 1.05:
        middle = (low + high) / 2
        low, high = (middle, high) if bears(middle) else (low, middle)
    return low


# The peers.


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(url: str, key: str = "", seconds: float = 120) -> None:
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
def gateway(folder: Path, upstream: int | None, settings: Sequence[str]) -> Iterator[Peer]:
    """Start ``tunery serve`` in front of the upstream, keys on; without one, its embedded engine."""
    sys.path.insert(0, str(ROOT))
    from tests.tiny.build import build_tiny

    base = build_tiny(folder / "mock")
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
        _wait(f"http://127.0.0.1:{port}/health/live")
        yield Peer("tunery", f"http://127.0.0.1:{port}/v1", key, "mock", process.pid)


@contextlib.contextmanager
def litellm(folder: Path, upstream: int, program: Path) -> Iterator[Peer]:
    """Start LiteLLM's proxy in front of the upstream, one worker, a master key."""
    config, port, key = folder / "litellm.yaml", free_port(), "sk-benchmark"
    listed = {"model": "openai/mock", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "mock", "litellm_params": listed}],
        "general_settings": {"master_key": key},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    command = [
        str(program),
        "--config",
        str(config),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--num_workers",
        "1",
    ]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with running(command, GATEWAY_CORE, folder / "litellm.log", quiet) as process:
        _wait(f"http://127.0.0.1:{port}/health/liveliness")
        yield Peer("litellm", f"http://127.0.0.1:{port}/v1", key, "mock", process.pid)


class Round(NamedTuple):
    """One peer in one round; the names are what is printed."""

    rate: float
    streams: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    stream_cpu_ms: float


def processor_s(process: int) -> float:
    """Return the processor time that a process and its threads have taken [s]."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_ms(peer: Peer, *, stream: bool, requests: int) -> float:
    """Return the processor time for a request, at 60 of them a second [ms]."""

    before = processor_s(peer.process)
    asyncio.run(load(peer, rate=60, seconds=requests / 60, stream=stream))
    return (processor_s(peer.process) - before) / requests * 1000


def one_round(peer: Peer, *, seconds: float, start: float, short: bool) -> Round:
    asyncio.run(load(peer, rate=30, seconds=3, stream=False))  # connections, caches
    cpu, stream_cpu = (cpu_ms(peer, stream=stream, requests=600) for stream in (False, True))
    at_100 = asyncio.run(load(peer, rate=100, seconds=seconds, stream=False))
    rate = streams = float("nan")
    if not short:
        rate = highest_rate(peer, seconds=seconds, stream=False, start=start)
        streams = highest_rate(peer, seconds=seconds, stream=True, start=start / 2)
    return Round(rate, streams, at_100.p50_ms, at_100.p99_ms, cpu, stream_cpu)


def spread(values: Sequence[float], digits: int = 2) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def report(found: dict[str, list[Round]], alone: Sequence[Figures]) -> None:
    """Print the medians of all rounds with their ranges."""
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(f"upstream alone at 100 requests/s: p50 {spread([f.p50_ms for f in alone])} ms")
    for name, rounds in found.items():
        pairs = list(zip(rounds, alone, strict=True))
        print(f"{name}:")
        print(f"  {spread([r.rate for r in rounds], 0)} requests/s at p99 < {P99_MS:.0f} ms")
        print(f"  {spread([r.streams for r in rounds], 0)} streams/s of {CHUNKS} chunks")
        print(f"  added at 100 requests/s: p50 {spread([r.p50_ms - a.p50_ms for r, a in pairs])} ms")
        print(f"  added at 100 requests/s: p99 {spread([r.p99_ms - a.p99_ms for r, a in pairs])} ms")
        print(f"  processor time of a request {spread([r.cpu_ms for r in rounds])} ms")
        print(f"  processor time of a stream {spread([r.stream_cpu_ms for r in rounds])} ms")
    if "litellm" in found:
        both = list(zip(found["tunery"], found["litellm"], strict=True))
        print(f"ratio of requests/s {spread([a.rate / max(b.rate, 1) for a, b in both])}")
        print(f"ratio of streams/s {spread([a.streams / max(b.streams, 1) for a, b in both])}")
        print(f"ratio of processor time, a request {spread([b.cpu_ms / a.cpu_ms for a, b in both])}")
        streams = [b.stream_cpu_ms / a.stream_cpu_ms for a, b in both]
        print(f"ratio of processor time, a stream {spread(streams)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--litellm", type=Path, help="LiteLLM's program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="length of one stretch of load")
    parser.add_argument("--short", action="store_true", help="no search for the highest rates")
    parser.add_argument("--mock", type=int, help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", help="settings of the gateway, as `tunery serve` takes them")
    given = parser.parse_args()
    if given.mock:
        asyncio.run(serve_mock(given.mock))
        return
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    found: dict[str, list[Round]] = {}
    alone: list[Figures] = []

    def measure(peer: Peer, start: float) -> None:
        taken = one_round(peer, seconds=given.seconds, start=start, short=given.short)
        found.setdefault(peer.name, []).append(taken)
        print(peer.name, taken, flush=True)

    with tempfile.TemporaryDirectory() as kept:
        folder, upstream = Path(kept), free_port()
        direct = Peer("upstream", f"http://127.0.0.1:{upstream}/v1", "none", "mock", 0)
        mock = [sys.executable, str(Path(__file__)), "--mock", str(upstream)]
        with running(mock, LOAD_CORE, folder / "mock.log"):
            _wait(f"http://127.0.0.1:{upstream}/v1/models")
            with gateway(folder, upstream, given.settings) as ours:
                for _ in range(given.rounds):
                    alone.append(asyncio.run(load(direct, rate=100, seconds=given.seconds, stream=False)))
                    measure(ours, 200)
                    if given.litellm:
                        with litellm(folder, upstream, given.litellm) as theirs:
                            measure(theirs, 40)
    report(found, alone)


if __name__ == "__main__":
    main()
