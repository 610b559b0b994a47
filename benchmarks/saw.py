"""What the scripts that kill, stop and cut share: a tiny base, tiny jobs, servers, and counting."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).absolute().parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402 - the tests' tiny model lies beside this folder
from tests.tiny.build import build_tiny  # noqa: E402
from tests.unit.store.cut_line import CutLine  # noqa: E402, F401 - scripts take it from here

from tunery.core.job import FINAL_STATUSES, Job  # noqa: E402
from tunery.pipeline.jobs.submit import start_job  # noqa: E402
from tunery.pipeline.recipe import parse_recipe  # noqa: E402
from tunery.store.workspace import Workspace  # noqa: E402

POSTGRES = "postgresql://postgres@127.0.0.1:5432"
TABLES = (
    "jobs", "job_events", "job_checkpoints", "runs", "datasets", "adapters", "evaluations", "gates",
    "model_versions", "aliases", "alias_moves", "rollouts", "files",
)  # fmt: skip


class Place(NamedTuple):
    """A home with its database and what jobs there read."""

    folder: Path
    home: Path
    url: str
    base: Path

    def environment(self, url: str | None = None) -> dict[str, str]:
        """Return the variables of a process that works here, through another line where ``url`` is given."""
        return {
            **os.environ,
            "TUNERY_HOME": str(self.home),
            "TUNERY_DATABASE_URL": url or self.url,
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
        }

    def open(self) -> Workspace:
        """Open the workspace, past any line that is cut."""
        return Workspace.open(self.home, database_url=self.url)


@contextlib.contextmanager
def place(folder: Path, database: str) -> Iterator[Place]:
    """Make a home on ``sqlite`` or ``postgresql``; the database of a server is dropped in the end."""
    folder.mkdir(parents=True)
    base = build_tiny(folder / "tiny-llama")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        words = ("card arrival", "top up failed", "exchange rate")
        rows = ((f"question number {i} about {words[i % 3]} and {i * i}", words[i % 3]) for i in range(60))
        csv.writer(stream).writerows([("text", "category"), *rows])
    if database == "sqlite":
        yield Place(folder, folder / "home", f"sqlite:///{folder}/home/tunery.db", base)
        return
    import psycopg

    name = f"tunery_saw_{secrets.token_hex(5)}"
    with psycopg.connect(f"{POSTGRES}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield Place(folder, folder / "home", f"{POSTGRES}/{name}", base)
    finally:
        with psycopg.connect(f"{POSTGRES}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def recipe(where: Place, name: str, *, seed: int, epochs: int = 12) -> dict[str, Any]:
    """Return a recipe that takes a second or two of computing."""
    return {
        "name": name,
        "goal": {"metric": "exact_match"},
        "base": str(where.base),
        "data": {
            "sources": [{"path": "rows.csv", "columns": {"input": "text", "output": "category"}}],
            "clean": {"near_duplicates": "group", "group_threshold": 1.0, "near_threshold": 1.0},
            "split": {"test": 6, "validation": 6},
        },
        "train": {
            "epochs": epochs, "batch_size": 8, "rank": 2, "threads": 1, "validation_every": 5, "seed": seed,
            "early_stopping": None,
        },
        "evaluate": {
            "max_new_tokens": 4, "perplexity_limit": 4, "baseline": {"zero_shot": True, "few_shot": False}
        },
        "gate": {"rules": [{"metric": "exact_match", "at_least": 0.0}]},
    }  # fmt: skip


def queue_job(where: Place, workspace: Workspace, name: str, *, seed: int, epochs: int = 12) -> Job:
    """Put a job into the queue as ``tunery jobs start`` does."""
    parsed = parse_recipe(recipe(where, name, seed=seed, epochs=epochs), where="saw")
    return start_job(
        workspace, parsed, base_dir=where.folder, recipe_path=where.folder / "r.yaml", actor="saw"
    )


class Server(NamedTuple):
    """A running ``tunery serve``."""

    process: subprocess.Popen[str]
    url: str
    log: Path


def serve(
    where: Place,
    label: str,
    *settings: str,
    url: str | None = None,
    hostname: str | None = None,
    seconds: float = 90,
) -> Server:
    """Start a server; one with a ``hostname`` of its own takes itself for another machine."""
    command = [sys.executable, "-m", "tunery", "serve", "--port", "0", "--base", str(where.base), *settings]
    if hostname is not None:
        command = ["unshare", "--uts", "sh", "-c", f'hostname {hostname} && exec "$@"', "sh", *command]
    log = where.folder / f"{label}.{secrets.token_hex(3)}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=where.environment(url), text=True, start_new_session=True
        )
    deadline = time.monotonic() + seconds
    while not (found := re.search(r"http://\S+", log.read_text())):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
        time.sleep(0.1)
    return Server(process, found[0].rstrip("/").removesuffix("/v1"), log)


def stop(server: Server) -> None:
    """End a server as Ctrl-C does, the hard way where it does not listen."""
    server.process.terminate()
    try:
        server.process.wait(timeout=45)
    except subprocess.TimeoutExpired:
        kill(server)


def kill(server: Server) -> None:
    """Kill a server at once; its worker dies with it."""
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def worker_of(server: Server, job_id: str) -> psutil.Process | None:
    """Return the process of a server that works on a job."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(server.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if job_id in child.cmdline():
                    return child
    return None


def until_ended(workspace: Workspace, ids: Sequence[str], seconds: float) -> list[Job]:
    """Wait for jobs to end and return them as they are then, or when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        jobs = [workspace.jobs.get(id) for id in ids]
        if all(job.status in FINAL_STATUSES for job in jobs) or time.monotonic() > deadline:
            return jobs
        time.sleep(0.1)


def snapshot(workspace: Workspace) -> dict[str, list[str]]:
    """Return every row of every table that jobs write, as text."""
    with workspace.database.snapshot() as transaction:
        return {table: sorted(map(repr, transaction.rows(f"SELECT * FROM {table}"))) for table in TABLES}


def doubled(workspace: Workspace, jobs: Sequence[Job]) -> list[str]:
    """Return what there is twice: versions of a run, events and checkpoints of a job, moves of an alias."""
    found = []
    versions = Counter((v.run_id, v.adapter_id) for v in workspace.models.list(limit=10_000))
    found += [f"version of {run} {n} times" for (run, _), n in versions.items() if n > 1]
    for job in jobs:
        said = Counter(e.message for e in workspace.jobs.every_event(job.id) if e.level != "warn")
        found += [f"{job.id} says {n} times: {m}" for m, n in said.items() if n > 1]
        steps = Counter(c.step_number for c in workspace.jobs.checkpoints(job.id, limit=1000).items)
        found += [f"{job.id} step {s} {n} times" for s, n in steps.items() if n > 1]
        endings = [e.message for e in workspace.jobs.every_event(job.id) if _ENDING.match(e.message)]
        found += [f"{job.id} has {len(endings)} ends: {endings}"] if len(endings) > 1 else []
    for name in workspace.models.names():
        moves = Counter((m.alias, m.version) for m in workspace.models.moves(name))
        found += [f"{name} {alias} moved to {v} {n} times" for (alias, v), n in moves.items() if n > 1]
    return found


_ENDING = re.compile(r"The job (has successfully completed|failed|was cancelled)")


def left_over(where: Place) -> list[str]:
    """Return what kills left on the disk: half-made folders, checkpoints, scratch."""
    found = [
        path.relative_to(where.home)
        for path in where.home.rglob("*")
        if path.name.endswith(".partial") or path.parent.name in ("checkpoints", "scratch")
    ]
    return [str(path) for path in found]


def command(where: Place, *arguments: str, url: str | None = None) -> subprocess.Popen[str]:
    """Start one command of the command line."""
    return subprocess.Popen(
        [sys.executable, "-m", "tunery", *arguments],
        env=where.environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=where.folder,
        start_new_session=True,
    )


def write_recipe(where: Place, name: str, *, seed: int, epochs: int = 12) -> Path:
    """Write a recipe file; JSON is YAML."""
    path = where.folder / f"{name}.yaml"
    path.write_text(json.dumps(recipe(where, name, seed=seed, epochs=epochs)), encoding="utf-8")
    return path


def serials() -> Iterator[int]:
    """Yield numbers that no trial shares."""
    return itertools.count(1)
