"""Measure the gateway against LiteLLM's proxy in front of the same mock upstream, in the same run.

    python benchmarks/gateway_vs_litellm.py --litellm VENV/bin/litellm [--rounds 3] [--seconds 10]

The gateway has one core (0), the load generator and the mock upstream the other (1). Load is open-loop:
requests begin when a Poisson process says so, and a latency counts from that moment, so that a slow server
cannot slow its own load down. Both proxies check a key, keep their default logging and pool connections;
the gateway here also renders the chat template, tokenises, counts limits, masks personal data and journals
every call.

Prints, as the median of the rounds with the range:

* the highest rate [requests/s] at which p99 stays under 50 ms and no request fails, of both, and their ratio;
* latency added to that of the upstream alone at 100 requests/s [ms], p50 and p99, and p50 of one client that
  sends its next request at once: where other machines share the caches, they are cold after each pause of the
  first load and warm in the second, and the difference says how much of a figure is that;
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
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway_load import (
    CHUNKS,
    GATEWAY_CORE,
    LOAD_CORE,
    Peer,
    free_port,
    gateway,
    mock_command,
    processor_s,
    running,
    send_one,
    wait_for,
)

P99_MS = 50.0


# The load.


class Figures(NamedTuple):
    """What one stretch of load came to."""

    done_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def _sent(peer: Peer, *, stream: bool) -> tuple[str, int, bytes]:
    """Return where requests go and what each of them asks."""
    asked = {
        "model": peer.model,
        "messages": [{"role": "user", "content": "When will my card arrive?"}],
        "max_tokens": CHUNKS if stream else 8,
        **({"stream": True} if stream else {}),
    }
    return "127.0.0.1", int(peer.url.split(":")[2].split("/")[0]), json.dumps(asked).encode()


async def load(peer: Peer, *, rate: float, seconds: float, stream: bool, seed: int = 0) -> Figures:
    """Load a peer open-loop for some seconds.

    Args:
        rate: Requests begun per second, by a Poisson process.
    """
    host, port, body = _sent(peer, stream=stream)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    took: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        try:
            good = await asyncio.wait_for(send_one(peer, host, port, free, body), 30) == 200
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


async def in_turn(peer: Peer, *, requests: int) -> float:
    """Return the median latency of one client that sends one request behind the other [ms]."""
    host, port, body = _sent(peer, stream=False)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    took: list[float] = []
    for _ in range(requests):
        begin = time.perf_counter()
        await send_one(peer, host, port, free, body)
        took.append((time.perf_counter() - begin) * 1000)
    for _, writer in free:
        writer.close()
    return statistics.median(took)


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
        wait_for(f"http://127.0.0.1:{port}/health/liveliness")
        yield Peer("litellm", f"http://127.0.0.1:{port}/v1", key, "mock", process.pid)


class Round(NamedTuple):
    """One peer in one round; the names are what is printed."""

    rate: float
    streams: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    stream_cpu_ms: float
    in_turn_ms: float


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
    behind = asyncio.run(in_turn(peer, requests=300))
    return Round(rate, streams, at_100.p50_ms, at_100.p99_ms, cpu, stream_cpu, behind)


def spread(values: Sequence[float], digits: int = 2) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def report(found: dict[str, list[Round]], alone: Sequence[Figures], alone_in_turn: Sequence[float]) -> None:
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
        behind = [r.in_turn_ms - a for r, a in zip(rounds, alone_in_turn, strict=True)]
        print(f"  added, one request at once behind the other: p50 {spread(behind)} ms")
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
    parser.add_argument("settings", nargs="*", help="settings of the gateway, as `tunery serve` takes them")
    given = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    found: dict[str, list[Round]] = {}
    alone: list[Figures] = []
    alone_in_turn: list[float] = []

    def measure(peer: Peer, start: float) -> None:
        taken = one_round(peer, seconds=given.seconds, start=start, short=given.short)
        found.setdefault(peer.name, []).append(taken)
        print(peer.name, taken, flush=True)

    with tempfile.TemporaryDirectory() as kept:
        folder, upstream = Path(kept), free_port()
        direct = Peer("upstream", f"http://127.0.0.1:{upstream}/v1", "none", "mock", 0)
        with running(mock_command(upstream), LOAD_CORE, folder / "mock.log"):
            wait_for(f"http://127.0.0.1:{upstream}/v1/models")
            with gateway(folder, upstream, given.settings) as ours:
                for _ in range(given.rounds):
                    alone.append(asyncio.run(load(direct, rate=100, seconds=given.seconds, stream=False)))
                    alone_in_turn.append(asyncio.run(in_turn(direct, requests=300)))
                    measure(ours, 200)
                    if given.litellm:
                        with litellm(folder, upstream, given.litellm) as theirs:
                            measure(theirs, 40)
    report(found, alone, alone_in_turn)


if __name__ == "__main__":
    main()
