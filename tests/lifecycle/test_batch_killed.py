"""Killing the server in the middle of a batch loses no answer and pays none twice but those in flight."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.test_api_batches import ended, line, lines_of, submit
from tests.lifecycle.test_server_killed import serving
from tunery.pipeline.batches.config import BatchSettings
from tunery.store.workspace import Workspace

LINES = 400


@pytest.mark.slow
def test_a_batch_goes_on_after_the_server_was_killed(tiny_model: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, tiny_model, None) as first:
        client = first.client
        made = submit(client, [line(n, body={"max_tokens": 16}) for n in range(LINES)])
        deadline = time.monotonic() + 60
        while not (counts := client.batches.retrieve(made.id).request_counts) or counts.completed < 30:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.process.kill()
        secret = client.api_key
    workspace = Workspace.open(home, database_url=f"sqlite:///{home}/tunery.db")
    before = {a.line: a.content for a in workspace.batches.answers(made.id, ok=True)}
    assert 30 <= len(before) < LINES
    with serving(home, tiny_model, secret) as second:
        batch = ended(second.client, made.id, within_s=120)
        assert batch.status == "completed"
        answers = lines_of(second.client, batch.output_file_id)
        list(second.client.chat.completions.list())  # all that was served is in the database then
    assert [a["custom_id"] for a in answers] == [f"row-{n}" for n in range(LINES)]
    assert all(answers[number - 1] == content for number, content in before.items())
    (served,) = workspace.database.rows("SELECT COUNT(*) AS calls FROM requests")
    workspace.close()
    assert LINES <= served["calls"] <= LINES + BatchSettings().at_once
