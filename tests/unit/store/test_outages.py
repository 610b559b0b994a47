"""A database that goes away: who waits for it loses nothing and doubles nothing, who does not hears of it."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.unit.store import samples
from tests.unit.store.cut_line import CutLine
from tunery.core.errors import UnavailableError
from tunery.store.database import Patience
from tunery.store.workspace import Workspace

TURNS = 30


@pytest.fixture
def line(database_url: str) -> Iterator[CutLine]:
    """Yield a line to the PostgreSQL server that can be cut."""
    if not database_url.startswith("postgresql"):
        pytest.skip("there is no line to a file")
    with CutLine("127.0.0.1", 5432) as line:
        yield line


@pytest.fixture
def patient(line: CutLine, database_url: str, tmp_path: Any) -> Iterator[Workspace]:
    """Yield a workspace that waits for its database, however long it is away."""
    parts = urlsplit(database_url)
    url = parts._replace(netloc=f"postgres@127.0.0.1:{line.port}").geturl()
    workspace = Workspace.open(tmp_path / "home", database_url=url, patience=Patience(math.inf))
    yield workspace
    workspace.close()


def test_calls_wait_for_the_line_to_come_back(patient: Workspace, line: CutLine) -> None:
    patient.runs.add(samples.run())
    line.cut()
    threading.Timer(0.5, line.mend).start()
    began = time.monotonic()
    assert patient.runs.update("run-0000000000000001", error="x").error == "x"
    assert 0.4 < time.monotonic() - began < 20
    assert [run.error for run in patient.runs.list()] == ["x"]


def test_a_line_that_is_cut_all_the_time_loses_and_doubles_nothing(patient: Workspace, line: CutLine) -> None:
    patient.jobs.add(samples.job())
    over = threading.Event()

    def cut_again_and_again() -> None:
        while not over.wait(random.uniform(0.02, 0.15)):
            line.cut()
            line.mend()

    cutter = threading.Thread(target=cut_again_and_again)
    cutter.start()
    try:
        for number in range(TURNS):
            patient.jobs.add_event("ftjob-1", f"line {number}")
            patient.models.register(samples.version(run_id=f"run-{number}"), once=True)
            patient.models.set_alias("support-bot", "champion", number + 1, actor="x", reason="x")
            patient.jobs.add_checkpoint("ftjob-1", number, {})
    finally:
        over.set()
        cutter.join()
        line.mend()
    assert line.cuts > 0
    events = [event.message for event in patient.jobs.events("ftjob-1", limit=100).items]
    assert events == [f"line {number}" for number in reversed(range(TURNS))]
    assert sorted(v.version for v in patient.models.list("support-bot")) == list(range(1, TURNS + 1))
    assert [move.version for move in patient.models.moves("support-bot")] == list(range(1, TURNS + 1))
    assert [c.step_number for c in patient.jobs.checkpoints("ftjob-1", limit=100).items] == [
        *reversed(range(TURNS))
    ]


def test_who_does_not_wait_hears_at_once_that_the_database_is_away(patient: Workspace, line: CutLine) -> None:
    patient.runs.add(samples.run())
    patient.database.patience = Patience()
    line.cut()
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="does not answer"):
        patient.runs.list()
    with pytest.raises(UnavailableError, match="does not answer"):
        patient.runs.add(samples.run("run-0000000000000002"))
    assert time.monotonic() - began < 5


def test_who_is_told_to_stop_waits_no_longer(patient: Workspace, line: CutLine) -> None:
    stop = threading.Event()
    patient.database.patience = Patience(math.inf, stop.is_set)
    line.cut()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        patient.runs.list()
    assert time.monotonic() - began < 5


def test_a_process_stopped_inside_a_transaction_gives_its_locks_back(
    patient: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tunery.store.postgres as postgres

    monkeypatch.setattr(postgres, "_IDLE_S", 1)
    patient.database.close()
    patient.jobs.add(samples.job())
    claimed: list[Any] = []
    other = threading.Thread(target=lambda: claimed.append(patient.jobs.claim("w1", 60)))

    def stop_inside() -> None:
        with patient.database.transaction(lock="jobs"):
            other.start()
            other.join(timeout=20)

    with pytest.raises(UnavailableError):
        stop_inside()
    assert [job.worker for job in claimed] == ["w1"]
