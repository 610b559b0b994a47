"""Jobs for tests of the queue's two ends."""

from __future__ import annotations

from tunery.core.job import Job
from tunery.store.workspace import Workspace


def add_job(workspace: Workspace, number: int = 1, **changes: object) -> Job:
    fields = {
        "id": f"ftjob-{number}",
        "kind": "run",
        "status": "queued",
        "recipe": {},
        "request": {"model": "tiny", "training_file": "file-1"},
        "created_at": workspace.clock.now(),
        **changes,
    }
    return workspace.jobs.add(Job.model_validate(fields))
