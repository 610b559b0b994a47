"""Four gateways on one count, some of them killed at random moments: nothing twice, nothing lost for ever."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.traffic.limits.conftest import REDIS
from tests.unit.traffic.limits.one_gateway import CALLER, LEASE_S

from tunery.core.limits import Limits, Scope
from tunery.store.limits import Counts
from tunery.store.workspace import Workspace
from tunery.traffic.limits.account import Claim
from tunery.traffic.limits.config import LimitSettings
from tunery.traffic.limits.database import DatabaseLedger
from tunery.traffic.limits.ledger import Ledger
from tunery.traffic.limits.redis import RedisLedger
from tunery.traffic.limits.rules import Rules

PARALLEL = 5
BUDGET = 60_000


class Fleet:
    """Gateways as processes, and the lines that they wrote."""

    def __init__(self, folder: Path, url: str, prefix: str) -> None:
        self.folder, self.url, self.prefix = folder, url, prefix
        self.lines = folder / "lines.jsonl"
        self.running: list[subprocess.Popen[bytes]] = []
        self.started = 0
        self.killed: dict[int, float] = {}

    def start(self) -> None:
        self.started += 1
        arguments = [str(self.folder / "home"), self.url, str(self.lines), self.prefix, str(self.started)]
        module = "tests.unit.traffic.limits.one_gateway"
        self.running.append(
            subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE)
        )

    def kill(self, which: int) -> None:
        process = self.running.pop(which)
        process.kill()
        process.communicate()
        self.killed[process.pid] = time.monotonic()

    def end(self) -> None:
        for process in self.running:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.running:
            process.stdin = None
            assert process.wait(timeout=30) == 0

    def lines_of(self, what: str) -> dict[str, dict[str, Any]]:
        """Return the lines of one kind by call; a line that SIGKILL cut is left out."""
        found = {}
        for text in self.lines.read_text().splitlines() if self.lines.exists() else []:
            line = json.loads(text)
            if line["what"] == what:
                found[line["id"] or str(line["pid"])] = line
        return found


@pytest.fixture(params=["redis", "postgresql"])
def fleet(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str | None,
    redis_prefix: str,
    postgres_url: str | None,
) -> Iterator[Fleet]:
    if (redis_url if request.param == "redis" else postgres_url) is None:
        pytest.skip(f"no {request.param} answers on its usual port")
    url, prefix = postgres_url, "-"
    if request.param == "redis":
        url, prefix = f"sqlite:///{tmp_path / 'tunery.db'}", redis_prefix
    assert url is not None
    fleet = Fleet(tmp_path, url, prefix)
    yield fleet
    for process in fleet.running:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_four_gateways_keep_one_limit_whoever_is_killed(fleet: Fleet) -> None:
    workspace = Workspace.open(fleet.folder / "home", database_url=fleet.url)
    limits = Limits(parallel_requests=PARALLEL, tokens_per_day=BUDGET)
    workspace.limits.set(Scope(key=CALLER.key), limits)
    ledger: Ledger = (
        DatabaseLedger(Counts(workspace.database.hurried()))
        if fleet.prefix == "-"
        else RedisLedger(REDIS, prefix=fleet.prefix)
    )
    (claim,) = Rules(LimitSettings(), workspace.limits.every()).claims(CALLER)
    draw = random.Random(os.getpid())
    for _ in range(4):
        fleet.start()
    while len(fleet.lines_of("ready")) < 4:
        time.sleep(0.05)
    for _ in range(3):
        time.sleep(draw.uniform(0.1, 0.5))
        fleet.kill(draw.randrange(len(fleet.running)))
    fleet.start()
    while str(fleet.running[-1].pid) not in fleet.lines_of("ready"):
        time.sleep(0.05)
    time.sleep(0.3)
    fleet.end()
    _check_parallel(fleet)
    _check_sums(fleet, ledger, claim)
    ledger.close()
    workspace.close()


def _check_parallel(fleet: Fleet) -> None:
    """At no moment were more calls in flight than may be."""
    ends = fleet.lines_of("end")
    moments: list[tuple[float, int]] = []
    for id, begun in fleet.lines_of("begin").items():
        until = ends[id]["at"] if id in ends else fleet.killed[begun["pid"]]
        moments += [(begun["at"], 1), (until, -1)]
    in_flight = most = 0
    for _, change in sorted(moments):
        in_flight += change
        most = max(most, in_flight)
    assert 3 <= most <= PARALLEL  # some places are held by the dead until their leases end


def _check_sums(fleet: Fleet, ledger: Ledger, claim: Claim) -> None:
    """What is counted is what was used, but for calls that a kill cut between their end and its booking."""
    begun, ended = fleet.lines_of("begin"), fleet.lines_of("end")
    deadline = time.monotonic() + LEASE_S + 5
    account = ledger.look([claim])[claim.account]
    while (account.parallel or account.held_tokens) and time.monotonic() < deadline:
        time.sleep(0.2)
        ledger.upkeep([])
        account = ledger.look([claim])[claim.account]
    assert (account.parallel, account.held_tokens) == (0, 0)
    unsure = {id for id in ended if begun[id]["pid"] in fleet.killed}
    sure = sum(line["tokens"] for id, line in ended.items() if id not in unsure)
    assert len(ended) > 100
    assert sure <= account.day_tokens <= sure + sum(ended[id]["tokens"] for id in unsure)
    in_flight_when_killed = sum(begun[id]["tokens"] for id in unsure | (begun.keys() - ended.keys()))
    assert sum(line["tokens"] for line in ended.values()) <= BUDGET + in_flight_when_killed
