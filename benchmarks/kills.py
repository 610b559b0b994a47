"""Kill ``tunery run`` and ``tunery serve`` at random moments; count what is lost, doubled, stuck, left over.

    python benchmarks/kills.py [--kills 200] [--database sqlite|postgresql|both] [--seconds 3600]

Every other trial starts a recipe with ``tunery run`` and kills it (SIGKILL) once to three times before it is
let to its end; the others start a server with a job in its queue and a client that asks all the time, kill
the server once, and start it again. A run counts as lost when it has no version in the end, a job when it is
not there or failed, an answer when it was sent and has no record. Left over is what lies half-made in the
home after the last run of each database and ``tunery gc``.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2

from saw import (
    Place,
    Server,
    command,
    doubled,
    kill,
    left_over,
    place,
    queue_job,
    serve,
    stop,
    until_ended,
    write_recipe,
)
from tunery.store.workspace import Workspace


def of_run(where: Place, workspace: Workspace, number: int, random_: random.Random) -> Counter[str]:
    """Kill a run some times, let it end, and look at what it made."""
    counts: Counter[str] = Counter()
    path = write_recipe(where, f"run-{number}", seed=number)
    for _ in range(random_.randint(1, 3)):
        process = command(where, "run", str(path))
        # Half of the moments lie in the first seconds, where most files are made.
        time.sleep(random_.uniform(0.3, 10))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            counts["kills"] += 1
        process.communicate()
    last = command(where, "run", str(path))
    _, told = last.communicate(timeout=240)
    if last.returncode != 0:
        counts["lost"] += 1
        print(f"  run-{number} ended with {last.returncode}: {told[-1500:]}", flush=True)
    counts["doubled"] += max(0, len(workspace.models.list(f"run-{number}")) - 1)
    return counts


class Client:
    """Asks the base all the time and remembers which answers came."""

    def __init__(self, server: Server, secret: str, model: str) -> None:
        self.answered: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(server, secret, model), daemon=True)
        self._thread.start()

    def _ask(self, server: Server, secret: str, model: str) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        with httpx2.Client(headers={"Authorization": f"Bearer {secret}"}, timeout=30) as http:
            while not self._over.is_set():
                with contextlib.suppress(httpx2.HTTPError, KeyError, ValueError):
                    answer = http.post(f"{server.url}/v1/chat/completions", json=body)
                    if answer.status_code == 200:
                        self.answered.append(answer.json()["id"])
                time.sleep(0.05)

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join(timeout=35)


def of_server(
    where: Place, workspace: Workspace, number: int, random_: random.Random, secret: str, asked: list[str]
) -> Counter[str]:
    """Kill a server with a job and traffic, start it again, and look at what became of the job."""
    counts: Counter[str] = Counter()
    job = queue_job(where, workspace, f"job-{number}", seed=number)
    server = serve(where, "server", "jobs.poll_s=0.1")
    client = Client(server, secret, where.base.name)
    time.sleep(random_.uniform(0.1, 12))
    kill(server)
    counts["kills"] += 1
    client.stop()
    asked += client.answered
    server = serve(where, "server", "jobs.poll_s=0.1")
    try:
        (ended,) = until_ended(workspace, [job.id], 180)
    finally:
        stop(server)
    if ended.status == "failed":
        counts["lost"] += 1
        print(f"  {job.id} failed: {ended.error}", flush=True)
    counts["stuck"] += int(ended.status not in ("succeeded", "failed", "cancelled"))
    twice = doubled(workspace, [ended])
    for line in twice:
        print(f"  {line}", flush=True)
    counts["doubled"] += len(twice)
    counts["doubled"] += max(0, len(workspace.models.list(f"job-{number}")) - 1)
    return counts


def main() -> None:
    """Run the trials and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kinds = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    random_ = random.Random(given.seed)
    total: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for turn, kind in enumerate(kinds, 1):
            counts: Counter[str] = Counter()
            ends = began + given.seconds * turn / len(kinds)
            with place(Path(scratch) / kind, kind) as where:
                workspace = where.open()
                secret = workspace.keys.create("saw").secret
                asked: list[str] = []
                number = 0
                while counts["kills"] < given.kills // len(kinds) and time.monotonic() < ends:
                    number += 1
                    if number % 2:
                        counts.update(of_run(where, workspace, number, random_))
                    else:
                        counts.update(of_server(where, workspace, number, random_, secret, asked))
                    counts["trials"] += 1
                    print(f"{kind}: {dict(counts)}", flush=True)
                counts["answered"] = len(asked)
                counts["answers without a record"] = sum(workspace.requests.find(id) is None for id in asked)
                workspace.close()
                swept = command(where, "gc")
                swept.communicate(timeout=120)
                for path in (left := left_over(where)):
                    print(f"  left: {path}")
                counts["left over"] = len(left)
            total.update(counts)
    zero = ("lost", "doubled", "stuck", "left over", "answers without a record")
    print(f"all: {dict(total)}\nmust be 0: { {name: total[name] for name in zero} }")


if __name__ == "__main__":
    main()
