"""What limits cost a request: one reservation and one settlement, in memory, in Redis, in PostgreSQL.

    python benchmarks/limits_per_request.py [--requests 20000] [--rounds 3] [--redis redis://127.0.0.1:6379/14]
        [--postgres postgresql://postgres@127.0.0.1:5432]

Four scopes bound each request (key, user, model, project), with all seven limits. `reserve` is what a request
waits for, in one of the gateway's threads; `settle` runs on the event loop in memory, and behind the request
elsewhere, many together. One thread, eight, and 24. `CPU` is what a request takes of its own thread for both,
which says something on a busy machine too. `bare` are round trips/s of as many threads that only ask the same
server for nothing (`SELECT 1`, `PING`), just before each round; requests/s are said as a share of them. Rates
are the median of all rounds, and their range. PostgreSQL gets a database that is dropped.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.limits import Limits, Scope
from tunery.store.limits import Counts
from tunery.store.workspace import Workspace
from tunery.traffic.limits.config import LimitSettings
from tunery.traffic.limits.database import DatabaseLedger
from tunery.traffic.limits.ledger import Ledger
from tunery.traffic.limits.memory import MemoryLedger
from tunery.traffic.limits.meter import Hold, Meter
from tunery.traffic.limits.refusal import Size

WIDE = Limits(
    requests_per_minute=10**8,
    tokens_per_minute=10**11,
    parallel_requests=10**6,
    tokens_per_day=10**12,
    tokens_per_month=10**12,
    usd_per_day=10**9,
    usd_per_month=10**9,
)
SETTINGS = LimitSettings(project=WIDE, key=WIDE, user=WIDE, model=WIDE)
THREADS = (1, 8, 24)


class Measured(NamedTuple):
    """What requests took."""

    reserved: list[float]
    """Each [s]."""
    settled: list[float]
    """Each [s]."""
    cpu: float
    """Of a request's own thread, on average [s]."""
    rate: float
    """All threads together [requests/s]."""


def measure(meter: Meter, requests: int, threads: int) -> Measured:
    """Let requests in and book them, one after another in each thread."""
    cpu: list[float] = []
    reserved: list[float] = []
    settled: list[float] = []
    guard, mark = threading.Lock(), secrets.token_hex(4)

    def some(thread: int) -> None:
        mine: list[tuple[float, float]] = []
        cpu_before = time.thread_time()
        for n in range(requests // threads):
            caller = Scope("acme", f"key-{n % 50}", f"user-{n % 200}", "bot")
            began = time.perf_counter()
            hold = meter.admit(f"{mark}-{thread}-{n}", caller, Size(200, 256, 1))
            between = time.perf_counter()
            assert isinstance(hold, Hold)
            hold.settle(200, 50)
            mine.append((between - began, time.perf_counter() - between))
        spent = time.thread_time() - cpu_before
        with guard:
            cpu.append(spent)
            reserved.extend(r for r, _ in mine)
            settled.extend(s for _, s in mine)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(threads)))
    rate = len(reserved) / (time.perf_counter() - began)
    return Measured(reserved, settled, sum(cpu) / len(reserved), rate)


class Peer(NamedTuple):
    """What only asks a server for nothing."""

    connect: Callable[[], AbstractContextManager[Any]]
    ask: Callable[[Any], object]


def bare_rate(peer: Peer, asks: int, threads: int) -> float:
    """Return the round trips of all threads together [1/s]."""

    def some(_: int) -> None:
        with peer.connect() as connection:
            for _ in range(asks // threads):
                peer.ask(connection)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(threads)))
    return asks / (time.perf_counter() - began)


def report(name: str, meter: Meter, requests: int, threads: int, peer: Peer | None, rounds: int) -> None:
    """Measure and print one line."""
    measure(meter, min(2_000, requests), threads)  # accounts are opened
    found: list[Measured] = []
    bare: list[float] = []
    for _ in range(rounds):
        if peer is not None:
            bare.append(bare_rate(peer, requests, threads))
        found.append(measure(meter, requests, threads))

    def us(values: list[float]) -> str:
        cuts = statistics.quantiles(values, n=100)
        return f"{cuts[49] * 1e6:8.0f} {cuts[98] * 1e6:8.0f}"

    reserved = us([value for one in found for value in one.reserved])
    settled = us([value for one in found for value in one.settled])
    cpu = statistics.mean(one.cpu for one in found)
    columns = f"{reserved}   {settled}   {cpu * 1e6:6.0f}"
    rates = [one.rate for one in found]
    line = f"{name:<23}{threads:>2}   {columns}   {spread(rates):>24}"
    if bare:
        line += f"   {spread(bare):>26}   {spread([r / b for r, b in zip(rates, bare, strict=True)], '.3f')}"
    print(line, flush=True)


def spread(values: list[float], form: str = ",.0f") -> str:
    """Return a median and its range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


@contextmanager
def database_of_its_own(server: str) -> Iterator[str]:
    """Yield the URL of a database that is dropped again."""
    import psycopg

    name = f"tunery_bench_{secrets.token_hex(4)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        try:
            yield f"{server}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def main() -> None:
    """Measure what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--redis", default="")
    parser.add_argument("--postgres", default="")
    options = parser.parse_args()
    print(f"{'':<23}thr  reserve p50, p99 µs  settle p50, p99 µs   CPU µs   requests/s, bare/s, share")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        url = f"sqlite:///{folder}/tunery.db"
        if options.postgres:
            url = opened.enter_context(database_of_its_own(options.postgres))
        workspace = Workspace.open(Path(folder) / "home", database_url=url)
        ledgers: list[tuple[str, Ledger, int, Peer | None]] = [
            ("nothing is bounded", MemoryLedger(), options.requests, None),
            ("memory, kept on disk", MemoryLedger(kept=Counts(workspace.database)), options.requests, None),
        ]
        if options.redis:
            from redis import Redis

            from tunery.traffic.limits.redis import RedisLedger

            ping = Peer(partial(Redis.from_url, options.redis), lambda client: client.ping())
            prefix = f"bench-{secrets.token_hex(4)}"
            ledgers.append(("Redis", RedisLedger(options.redis, prefix=prefix), options.requests // 4, ping))
        if options.postgres:
            import psycopg

            select = Peer(
                partial(psycopg.connect, url, autocommit=True), lambda c: c.execute("SELECT 1").fetchall()
            )
            counts = Counts(workspace.database.hurried())
            ledgers.append(("PostgreSQL", DatabaseLedger(counts), options.requests // 10, select))
        for name, ledger, requests, peer in ledgers:
            for threads in THREADS:
                settings = LimitSettings() if name.startswith("nothing") else SETTINGS
                meter = Meter(workspace, settings, ledger)
                meter.start()
                report(name, meter, requests, threads, peer, options.rounds)
                meter.close()
        workspace.close()


if __name__ == "__main__":
    main()
