"""Many requests through the gateway while an alias moves and one of two upstreams is killed: does any fail?

    PYTHONPATH=. python benchmarks/gateway_soak.py [--requests 100000 --concurrency 16 --kills 10]

Closed loop: so many requests are in flight all the time. They name a model whose ``champion`` moves between
two versions every second. At even shares of the requests one mock upstream gets SIGKILL and is started again
a second later, without the adapters that it had loaded. The gateway has one core (0), all else the other (1).

Prints failed requests (bar: 0), requests/s, and the gateway's proportional set size after a tenth of the
requests and at the end (bar: under 5 % more over a million).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from tests.integration.live_api import BASE, register
from tests.tiny.build import build_adapter, build_tiny

from gateway_load import (
    LOAD_CORE,
    Peer,
    free_port,
    gateway,
    mock_command,
    send_one,
    wait_for,
)
from tunery.registry.aliases import promote
from tunery.store.workspace import Workspace

MODEL = "support"
AWAY_S = 1.0
"""How long a killed upstream is away [s]."""


class Upstream:
    """A mock upstream that can be killed."""

    def __init__(self) -> None:
        self.port = free_port()
        self.kills = 0
        self._start()

    @property
    def url(self) -> str:
        """Its address, with the version."""
        return f"http://127.0.0.1:{self.port}/v1"

    def _start(self) -> None:
        self._process = subprocess.Popen(mock_command(self.port))
        wait_for(f"{self.url}/models")

    def kill(self) -> None:
        """Kill it, and start it again after a while."""
        self.end()
        self.kills += 1
        time.sleep(AWAY_S)
        self._start()

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


class Soak:
    """What has been counted so far."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.begun = self.done = self.moves = 0
        self.failed: Counter[str] = Counter()
        """By status, or by what broke."""
        self.over = threading.Event()


async def load(peer: Peer, soak: Soak, concurrency: int) -> None:
    """Send all requests, so many at a time."""
    port, free = int(peer.url.split(":")[2].split("/")[0]), []  # type: ignore[var-annotated]
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Where is it?"}], "max_tokens": 8}
    body = json.dumps(asked).encode()

    async def client() -> None:
        while soak.begun < soak.requests:
            soak.begun += 1
            try:
                status = await asyncio.wait_for(send_one(peer, "127.0.0.1", port, free, body), 60)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                soak.failed[type(error).__name__] += 1
            else:
                if status != 200:
                    soak.failed[str(status)] += 1
            soak.done += 1

    await asyncio.gather(*(client() for _ in range(concurrency)))
    for _, writer in free:
        writer.close()


def move_alias(home: Path, soak: Soak) -> None:
    """Move the alias between the two versions every second."""
    workspace = Workspace.open(home)
    while not soak.over.wait(1.0):
        soak.moves += 1
        promote(workspace, f"{MODEL}@{1 + soak.moves % 2}", actor="soak", reason="moves every second")
    workspace.close()


def kill_at_shares(upstream: Upstream, soak: Soak, kills: int) -> None:
    """Kill an upstream at even shares of the requests."""
    for number in range(1, kills + 1):
        while soak.done < soak.requests * number / (kills + 1):
            if soak.over.wait(0.02):
                return
        upstream.kill()


def watch_memory(process: psutil.Process, soak: Soak, found: list[int]) -> None:
    """Note the proportional set size of a process after a tenth of the requests [bytes]."""
    while soak.done < soak.requests / 10 and not soak.over.wait(0.02):
        pass
    found.append(process.memory_full_info().pss)


def main() -> None:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=16, help="requests in flight")
    parser.add_argument("--kills", type=int, default=10, help="times that an upstream gets SIGKILL")
    parser.add_argument("settings", nargs="*", help="settings of the gateway, as `tunery serve` takes them")
    given = parser.parse_args()
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    soak, pss = Soak(given.requests), []  # type: ignore[var-annotated]
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        base = build_tiny(folder / BASE)
        workspace = Workspace.open(folder / "home")
        for seed in (1, 2):
            register(workspace, base, build_adapter(base, folder / f"adapter-{seed}", seed=seed), MODEL)
        promote(workspace, f"{MODEL}@1", actor="soak", reason="begins")
        workspace.close()
        upstreams = [Upstream(), Upstream()]
        others = f"engine.upstreams=[{upstreams[1].url}]"
        try:
            with gateway(folder, upstreams[0].port, [others, *given.settings], name=BASE) as peer:
                process = psutil.Process(peer.process)
                threads = [
                    threading.Thread(target=move_alias, args=(folder / "home", soak)),
                    threading.Thread(target=kill_at_shares, args=(upstreams[1], soak, given.kills)),
                    threading.Thread(target=watch_memory, args=(process, soak, pss)),
                ]
                for thread in threads:
                    thread.start()
                begin = time.monotonic()
                try:
                    asyncio.run(load(peer, soak, given.concurrency))
                finally:
                    seconds = time.monotonic() - begin
                    soak.over.set()
                    for thread in threads:
                        thread.join()
                pss.append(process.memory_full_info().pss)
        finally:
            for upstream in upstreams:
                upstream.end()
    failed = soak.failed.total()
    print(f"{failed} of {soak.done:,} requests failed {dict(soak.failed) or ''}".rstrip())
    print(
        f"{soak.done / seconds:.0f} requests/s, {soak.moves} moves of the alias, {upstreams[1].kills} kills"
    )
    print(
        f"PSS {pss[0] / 2**20:.1f} MiB after 10 %, {pss[1] / 2**20:.1f} MiB at the end: "
        f"{(pss[1] / pss[0] - 1):+.1%}"
    )
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
