"""What one project may keep and have at work."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.pipeline.jobs.queued_jobs import add_job

from tunery.core.errors import QuotaError
from tunery.pipeline.jobs.files import remove_file, store_batch_file
from tunery.pipeline.jobs.room import OPEN_STATUSES, require_place, within_room
from tunery.store.workspace import Workspace


def store(workspace: Workspace, size: int, most: int | None) -> str:
    def write(path: Path) -> None:
        path.write_bytes(b"x" * size)

    return store_batch_file(workspace, "a.jsonl", within_room(workspace, write, most)).id


def test_a_file_that_a_project_has_no_room_for_leaves_nothing(workspace: Workspace) -> None:
    acme, other = workspace.of("acme"), workspace.of("other")
    first = store(acme, 60, 100)
    with pytest.raises(QuotaError, match="may keep files of 100 bytes; it has 60, and this one has 50"):
        store(acme, 50, 100)
    assert [file.id for file in acme.files.list()] == [first]
    assert [path.name for path in (workspace.root / "files").iterdir() if path.is_dir()] == [first]
    store(other, 100, 100)  # another's files are its own
    store(acme, 40, 100)
    remove_file(acme, first)
    store(acme, 60, 100)
    store(acme, 10_000, None)


@pytest.mark.parametrize("status", OPEN_STATUSES)
def test_jobs_that_are_not_over_have_places(workspace: Workspace, status: str) -> None:
    acme = workspace.of("acme")
    add_job(acme, 1, status=status)
    add_job(acme, 2, status="succeeded")
    require_place(acme, 2)
    with pytest.raises(QuotaError, match="may have 1 job queued, paused or running; it has 1"):
        require_place(acme, 1)
    require_place(acme, None)
    require_place(workspace.of("other"), 1)
