"""Take the database, the disk and the process away under traffic, and count what became of the records.

    python benchmarks/log_outages.py outages [--count 100] [--seconds 0.5 5] [--kills 0] [--sync]
    python benchmarks/log_outages.py disk    [--count 48]                    # as root: mounts a tmpfs
    python benchmarks/log_outages.py cost    [--calls 300]

``outages`` serves a tiny base with its records in PostgreSQL behind a TCP proxy of this script, asks it from
four threads, and cuts the proxy, lets it swallow bytes, or ends the sessions (``pg_terminate_backend``), each
for a random time; ``--kills`` also kills the server (SIGKILL) at random moments and starts it again.
``disk`` has the journal on a tmpfs of 24 MiB that is filled at random moments, half of them while the
database is away. Both print how many calls were answered, recorded, lost, recorded twice; and of the feedback
given meanwhile how much was refused as unknown, and lost. Exit code 1 where one of those is not 0.
``cost`` prints what the log adds to a call, against the same server whose log does nothing, in the same run.
The bar: 100 outages, 0 lost, 0 doubled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import psycopg

ROOT = Path(__file__).parents[1]
THREADS = 4
FEEDBACK_SHARE = 0.1
Cut = Literal["open", "closed", "silent"]


class Proxy:
    """Passes connections on to a server until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._state: Cut = "open"
        threading.Thread(target=self._accept, daemon=True).start()

    def become(self, state: Cut) -> None:
        """Pass bytes on, hang up on everybody, or hold bytes back."""
        self._state = state
        if state == "closed":
            pairs, self._pairs = self._pairs, []
            for pair in pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            if self._state == "closed":
                client.close()
                continue
            try:
                server = socket.create_connection(self._to, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._pairs.append((client, server))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                while self._state == "silent":
                    time.sleep(0.02)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Server:
    """``tunery serve`` in a process of its own."""

    def __init__(self, home: Path, base: Path, database_url: str, *more: str, journal: Path | None) -> None:
        self._command = [sys.executable, "-m", "tunery", "serve", "--json", "auth=false", f"base={base}"]
        self._command += ["run_jobs=false", "min_free_bytes=0", *more]
        self._environment = {
            **os.environ,
            "TUNERY_HOME": str(home),
            "TUNERY_DATABASE_URL": database_url,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        if journal is not None:
            self._environment["TUNERY_JOURNAL"] = str(journal)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.name = ""
        self._log = (home.parent / "server.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self._port)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        said = b""
        while not said.rstrip().endswith(b"}"):
            line = self._process.stdout.readline()
            if not line:
                raise SystemExit(f"the server did not start; see {self._log.name}")
            said += line
        self.name = json.loads(said)["base"]
        while True:  # announced a moment before it answers
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(f"{self.url}/health/live", timeout=1)
                return
            time.sleep(0.05)

    def warm(self) -> None:
        """Have the model opened, which takes seconds, before what is to be seen begins."""
        body = {"model": self.name, "messages": [{"role": "user", "content": "card"}], "max_tokens": 1}
        httpx2.post(f"{self.url}/v1/chat/completions", json=body, timeout=120).raise_for_status()

    def end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(timeout=90)


class Traffic:
    """Threads that ask all the time and remember every answer they got whole."""

    def __init__(self, server: Server, *, record_bytes: int = 0) -> None:
        self._metadata = {f"k{n}": "x" * 500 for n in range(record_bytes // 500)}
        self.answered: set[str] = set()
        self.rated: set[str] = set()
        self.statuses: Counter[str] = Counter()
        self.feedback: Counter[str] = Counter()
        self._server = server
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(THREADS)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _ask(self, seed: int) -> None:
        draw = random.Random(seed)
        with httpx2.Client(base_url=f"{self._server.url}/v1", timeout=60) as client:
            while not self._over.is_set():
                text = " ".join(draw.choices(["card", "lost", "arrive", "jane@example.org", "€"], k=12))
                body = {
                    "model": self._server.name,
                    "messages": [{"role": "user", "content": text}],
                    "max_tokens": 2,
                    "user": f"user-{seed}",
                    "metadata": self._metadata,
                }
                try:
                    answer = client.post("/chat/completions", json=body)
                    self.statuses[str(answer.status_code)] += 1
                    if answer.status_code != 200:
                        time.sleep(0.05)
                        continue
                    id = answer.json()["id"]
                    self.answered.add(id)
                    if draw.random() < FEEDBACK_SHARE:
                        self._rate(client, id)
                except httpx2.HTTPError as error:
                    self.statuses[type(error).__name__] += 1
                    time.sleep(0.1)

    def _rate(self, client: httpx2.Client, id: str) -> None:
        rated = client.post("/feedback", json={"request_id": id, "rating": 1})
        self.feedback[str(rated.status_code)] += 1
        if rated.status_code == 200:
            self.rated.add(rated.json()["id"])


@contextlib.contextmanager
def database(server: str) -> Iterator[str]:
    """Yield the name of a database made for this run."""
    name = f"log_outages_{secrets.token_hex(4)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield name
    finally:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def end_sessions(server: str, name: str) -> None:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )


def tell(traffic: Traffic, server: str, name: str, tried: str) -> int:
    """Compare what clients got with what the database has; print it, return how much is not as it should."""
    with psycopg.connect(f"{server}/{name}") as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM requests")]
        feedback = [row[0] for row in connection.execute("SELECT id FROM feedback")]
    lost = traffic.answered - set(ids)
    lost_feedback = traffic.rated - set(feedback)
    doubled = len(ids) - len(set(ids)) + len(feedback) - len(set(feedback))
    unknown = traffic.feedback["404"]
    print(
        f"{tried}: {len(traffic.answered):,} answered, {len(ids):,} recorded, "
        f"{len(lost):,} lost, {doubled} doubled"
    )
    print(f"  statuses {dict(traffic.statuses)}")
    print(f"  feedback {dict(traffic.feedback)}; {len(lost_feedback)} lost, {unknown} refused as unknown")
    return len(lost) + doubled + len(lost_feedback) + unknown


def caught_up(url: str, seconds: float = 120) -> None:
    """Wait until the server's journal is empty."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.HTTPError, KeyError):
            state = httpx2.get(f"{url}/health", timeout=5).json()["request_log"]
            if state["in_memory"] == state["in_journal"] == 0:
                return
        time.sleep(0.2)
    print(f"  the journal was not caught up in time: {httpx2.get(f'{url}/health', timeout=5).text}")


def tiny_base(given: Path | None, folder: Path) -> Path:
    if given is not None:
        return given
    sys.path.insert(0, str(ROOT))
    from tests.tiny.build import build_tiny

    return build_tiny(folder)


def outages(given: argparse.Namespace) -> int:
    draw = random.Random(given.seed)
    host, _, port = given.server.rpartition("@")[2].partition(":")
    with tempfile.TemporaryDirectory() as folder, database(given.server) as name:
        proxy = Proxy(host, int(port or 5432))
        url = f"postgresql://{given.server.partition('://')[2].rpartition('@')[0]}@127.0.0.1:{proxy.port}/{name}"
        sync = [f"log.sync={str(given.sync).lower()}"]
        base = tiny_base(given.base, Path(folder) / "base")
        server = Server(Path(folder) / "home", base, url, *sync, journal=None)
        server.start()
        server.warm()
        kinds: Counter[str] = Counter()
        kill_at = set(draw.sample(range(given.count), min(given.kills, given.count)))
        away = 0.0
        try:
            with Traffic(server) as traffic:
                for number in range(given.count):
                    kind = draw.choice(["closed", "silent", "ended"])
                    seconds = draw.uniform(*given.seconds)
                    kinds[kind] += 1
                    away += seconds
                    if kind == "ended":
                        until = time.monotonic() + seconds
                        while time.monotonic() < until:
                            end_sessions(given.server, name)
                            time.sleep(0.05)
                    else:
                        proxy.become(kind)  # type: ignore[arg-type]
                        time.sleep(seconds)
                    if number in kill_at:
                        server.end(signal.SIGKILL)
                        kinds["killed"] += 1
                    proxy.become("open")
                    if number in kill_at:
                        server.start()
                        server.warm()  # so that the next outage finds it answering
                    time.sleep(draw.uniform(0.1, 0.6))
            caught_up(server.url)
        finally:
            server.end(signal.SIGTERM)
        tried = f"{given.count} outages ({dict(kinds)}; {away:.0f} s in all)"
        wrong = tell(traffic, given.server, name, tried)
        print(f"  left in the home: {[str(p) for p in (Path(folder) / 'home' / 'journal').glob('*/*')]}")
        if wrong and given.keep_log:
            Path(given.keep_log).write_bytes((Path(folder) / "server.log").read_bytes())
        return wrong


def disk(given: argparse.Namespace) -> int:
    draw = random.Random(given.seed)
    host, _, port = given.server.rpartition("@")[2].partition(":")
    with tempfile.TemporaryDirectory() as folder, database(given.server) as name:
        small = Path(folder) / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)
        proxy = Proxy(host, int(port or 5432))
        url = f"postgresql://{given.server.partition('://')[2].rpartition('@')[0]}@127.0.0.1:{proxy.port}/{name}"
        base = tiny_base(given.base, Path(folder) / "base")
        server = Server(Path(folder) / "home", base, url, journal=small / "journal")
        server.start()
        server.warm()
        refused = 0
        try:
            # Records so large that segments of the journal fill up while the disk is full.
            with Traffic(server, record_bytes=8_000) as traffic:
                for number in range(given.count):
                    without = number % 2 == 0
                    if without:
                        proxy.become("closed")
                    time.sleep(draw.uniform(0.0, 0.3))
                    filler = small / "filler"
                    with contextlib.suppress(OSError), filler.open("wb") as stream:
                        while True:
                            stream.write(b"x" * 65_536)
                            stream.flush()
                    before = traffic.statuses["503"]
                    time.sleep(draw.uniform(0.3, 1.5))
                    refused += traffic.statuses["503"] > before
                    filler.unlink()
                    proxy.become("open")
                    time.sleep(draw.uniform(0.1, 0.5))
            caught_up(server.url)
        finally:
            server.end(signal.SIGTERM)
            subprocess.run(["umount", str(small)], check=False)
        wrong = tell(traffic, given.server, name, f"{given.count} fillings of the journal's disk")
        print(f"  calls were refused during {refused} of them")
        if given.keep_log:
            Path(given.keep_log).write_bytes((Path(folder) / "server.log").read_bytes())
        return wrong


def cost(given: argparse.Namespace) -> int:
    import uvicorn

    from tunery.api.app import create_app
    from tunery.api.config import ServerSettings
    from tunery.api.server import bind, engine_opener
    from tunery.model.bases import describe_base
    from tunery.pipeline.gateway.bases import BasePool
    from tunery.store.workspace import Workspace

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as at_the_end:
        base = tiny_base(given.base, Path(folder) / "base")
        urls: dict[str, str] = {}
        for how in ("none", "journal", "sync"):
            settings = ServerSettings.model_validate(
                {"port": 0, "auth": False, "run_jobs": False, "log": {"sync": how == "sync"}}
            )
            home = Path(folder) / how
            workspace = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
            bases = BasePool(describe_base(base, name="tiny"), engine_opener(settings.engine))
            app = create_app(workspace, bases, settings)
            if how == "none":
                app.state.services.log.write = lambda record: None
            listening = bind(settings)
            server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            at_the_end.callback(thread.join, 30)
            at_the_end.callback(setattr, server, "should_exit", True)
            urls[how] = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        times: dict[str, list[float]] = {how: [] for how in urls}
        body: dict[str, Any] = {"model": "tiny", "max_tokens": 8}
        body["messages"] = [{"role": "user", "content": "I am still waiting on my card " * 20}]
        with httpx2.Client(timeout=60) as client:
            for number in range(given.calls + 20):
                for how, url in urls.items():  # in turn: a busy neighbour then disturbs all alike
                    began = time.perf_counter()
                    client.post(url, json=body).raise_for_status()
                    if number >= 20:
                        times[how].append((time.perf_counter() - began) * 1000)
        median = {how: statistics.median(found) for how, found in times.items()}
        p95 = {how: statistics.quantiles(found, n=20)[-1] for how, found in times.items()}
        for how, name in (("none", "no log"), ("journal", "log"), ("sync", "log.sync")):
            print(
                f"{name:>8}: p50 {median[how]:6.2f} ms ({median[how] / median['none']:.3f} times no log, "
                f"{median[how] - median['none']:+.2f} ms), p95 {p95[how]:6.2f} ms"
            )
    return 0


def main() -> int:
    """Run what was asked for; 1 where something was lost, doubled or unknown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["outages", "disk", "cost"])
    parser.add_argument("--count", type=int, default=100, help="outages or fillings")
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.5, 5.0), help="shortest and longest")
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs of the server among the outages")
    parser.add_argument("--sync", action="store_true", help="serve with log.sync=true")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, help="folder of a base model; a tiny one is built by default")
    parser.add_argument(
        "--server", default="postgresql://postgres@127.0.0.1:5432", help="URL without database"
    )
    parser.add_argument("--keep-log", help="where to put the server's log")
    given = parser.parse_args()
    wrong = {"outages": outages, "disk": disk, "cost": cost}[given.what](given)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
