"""Batches and webhooks from the command line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.fixtures_cli import Tunery
from tests.unit.cli.conftest import AT
from tunery.core.batch import Batch, BatchAnswer, BatchProblem
from tunery.store.webhooks import Wishes
from tunery.store.workspace import Workspace


def add(workspace: Workspace, number: int) -> Batch:
    return workspace.batches.add(
        Batch(
            id=f"batch_{number}",
            created_at=AT,
            status="in_progress",
            endpoint="/v1/chat/completions",
            input_file_id="file-1",
            expires_at=AT + timedelta(hours=24),
            lines=3,
        )
    )


def test_batches_are_listed_shown_and_cancelled(tunery: Tunery, home: Path) -> None:
    workspace = Workspace.open(home)
    add(workspace, 1)
    workspace.batches.claim("w", 30, lambda worker: False)
    workspace.batches.keep("batch_1", "w", [BatchAnswer(1, True, 5, 2, {}), BatchAnswer(2, False, 0, 0, {})])
    add(workspace, 2)
    assert [b["id"] for b in tunery("batches", "ls", "--json").json] == ["batch_2", "batch_1"]
    shown = tunery("batches", "show", "batch_1", "--json").json
    assert (shown["answered"], shown["refused"], shown["prompt_tokens"]) == (1, 1, 5)
    assert "5 + 2" in tunery("batches", "show", "batch_1").out
    assert tunery("batches", "cancel", "batch_1").out == "batch_1 is cancelling\n"
    assert tunery("batches", "cancel", "batch_1", "--json").json["status"] == "cancelling"
    problem = BatchProblem(code="invalid_json_line", message="the line is no JSON", line=7)
    workspace.batches.end("batch_1", "w", "failed", problems=(problem,))
    assert "line 7: the line is no JSON" in tunery("batches", "show", "batch_1").out
    assert tunery("batches", "cancel", "batch_1").code == 4
    assert tunery("batches", "show", "batch_9").code == 3
    workspace.close()


def test_deliveries_are_listed_shown_and_sent_again(tunery: Tunery, home: Path) -> None:
    workspace = Workspace.open(home)
    workspace.outbox.tell("gate.refused", id="gate-1")
    assert workspace.webhooks.fan_out({"mine": Wishes(lambda event: True, 10)}) == 1
    (waiting,) = tunery("webhooks", "ls", "--json").json
    assert (waiting["endpoint"], waiting["status"]) == ("mine", "pending")
    assert tunery("webhooks", "resend", waiting["id"]).code == 4
    workspace.webhooks.update(waiting["id"], status="dead", problem="given up", attempts=9)
    assert tunery("webhooks", "ls", "--status", "pending", "--json").json == []
    assert "given up" in tunery("webhooks", "show", waiting["id"]).out
    again = tunery("webhooks", "resend", waiting["id"], "--json").json
    assert (again["status"], again["attempts"], again["problem"]) == ("pending", 0, None)
    refused = tunery("webhooks", "test", "--wait", "0")
    assert refused.code == 6
    assert "no server has taken evt-" in refused.err
    workspace.close()
