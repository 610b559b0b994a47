"""Batches in the database: held by one worker at a time, an answer a line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.store.conftest import ManualClock
from tunery.core.batch import Batch, BatchAnswer, BatchTally
from tunery.core.errors import ConflictError
from tunery.store.workspace import Workspace


def batch(workspace: Workspace, id: str = "batch_1") -> Batch:
    now = workspace.clock.now()
    return workspace.batches.add(
        Batch(
            id=id,
            created_at=now,
            status="validating",
            endpoint="/v1/chat/completions",
            input_file_id="file-1",
            expires_at=now + timedelta(hours=24),
        )
    )


def answer(line: int, *, ok: bool = True, text: str = "a") -> BatchAnswer:
    return BatchAnswer(line, ok, 3, 2, {"custom_id": f"row-{line}", "response": text})


def alive(worker: str) -> bool:
    return False


def test_a_batch_is_held_by_one_worker_until_its_lease_ends(workspace: Workspace, clock: ManualClock) -> None:
    batch(workspace)
    batches = workspace.batches
    first = batches.claim("a", 30, alive)
    assert first is not None
    assert batches.claim("b", 30, alive) is None
    clock.pass_(20)
    batches.hold(first.id, "a", 30)
    clock.pass_(20)
    assert batches.claim("b", 30, alive) is None
    clock.pass_(20)
    second = batches.claim("b", 30, alive)
    assert second is not None
    for late in (
        lambda: batches.hold(first.id, "a", 30),
        lambda: batches.advance(first.id, "a", status="in_progress"),
        lambda: batches.keep(first.id, "a", [answer(1)]),
        lambda: batches.end(first.id, "a", "completed"),
    ):
        with pytest.raises(ConflictError, match="no longer held by a"):
            late()
    assert batches.lines_answered(first.id) == set()


def test_a_batch_of_a_process_that_is_gone_is_free_at_once(workspace: Workspace) -> None:
    batch(workspace)
    assert workspace.batches.claim("a", 30, alive) is not None
    taken = workspace.batches.claim("b", 30, lambda worker: worker == "a")
    assert taken is not None
    assert taken.worker == "b"
    workspace.batches.let_go(taken.id, "a")
    assert workspace.batches.claim("c", 30, alive) is None
    workspace.batches.let_go(taken.id, "b")
    assert workspace.batches.claim("c", 30, alive) is not None


def test_a_line_has_one_answer_and_answers_come_in_the_order_of_lines(workspace: Workspace) -> None:
    made = batch(workspace)
    batches = workspace.batches
    batches.claim("a", 30, alive)
    for line in (450, 3, 1, 2):
        batches.keep(made.id, "a", [answer(line)])
    odd = "nul \0 and half \ud83d"
    batches.keep(made.id, "a", [answer(line) for line in range(4, 450)])
    batches.keep(made.id, "a", [answer(3, text="again"), answer(500, ok=False, text=odd)])
    assert batches.lines_answered(made.id) == {*range(1, 451), 500}
    found = list(batches.answers(made.id, ok=True))
    assert [a.line for a in found] == list(range(1, 451))
    assert found[2].content["response"] == "a"
    assert [a.content["response"] for a in batches.answers(made.id, ok=False)] == [odd]
    expected = BatchTally(450, 1, 3 * 451, 2 * 451)
    assert batches.tally(batches.get(made.id)) == expected
    ended = batches.end(made.id, "a", "completed", output_file_id="file-2")
    assert (ended.status, ended.answered, ended.refused, ended.worker) == ("completed", 450, 1, None)
    assert batches.tally(ended) == expected
    assert batches.lines_answered(made.id) == set()
    assert batches.claim("b", 30, alive) is None


def test_a_batch_being_cancelled_stays_so_until_its_end(workspace: Workspace) -> None:
    made = batch(workspace)
    batches = workspace.batches
    batches.claim("a", 30, alive)
    assert batches.cancel(made.id).status == "cancelling"
    assert batches.advance(made.id, "a", status="in_progress", lines=7).status == "cancelling"
    assert batches.get(made.id).lines == 7
    assert batches.end(made.id, "a", "cancelled").cancelling_at is not None
    assert batches.cancel(made.id).status == "cancelled"
    other = batch(workspace, "batch_2")
    batches.claim("a", 30, alive)
    batches.end(other.id, "a", "completed")
    with pytest.raises(ConflictError, match="batch_2 is completed"):
        batches.cancel(other.id)
