"""What no version needs: artifacts that may be freed because the same recipe makes them again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta

from tunery.core.errors import ConflictError, DamagedError
from tunery.core.job import FINAL_STATUSES
from tunery.core.run import Run
from tunery.registry.lineage import lineage, needed_by
from tunery.store.artifacts import Kind
from tunery.store.exclusive import nobody_at_work
from tunery.store.left_overs import CHECKPOINTS, LeftOver, size_of
from tunery.store.workspace import Workspace

_KINDS: tuple[Kind, ...] = ("datasets", "adapters", "evaluations", "inspections")
"""Not what people reviewed, judges were paid for or clients uploaded: that is not made again by itself."""


def unused(workspace: Workspace) -> list[LeftOver]:
    """Return what no registered version stands on, and the checkpoints of unfinished trainings."""
    return [left for *_, left in _unused(workspace)]


def free_unused(workspace: Workspace) -> list[LeftOver]:
    """Remove what :func:`unused` returns, and return it.

    Raises:
        ConflictError: A job is waiting or running, or another process makes artifacts right now.
    """
    for job in workspace.whole.jobs.every():
        if job.status not in FINAL_STATUSES:
            raise ConflictError(
                f"job {job.id} is {job.status} and may need what nothing else does",
                hint=f"wait for it, or tunery jobs cancel {job.id}",
            )
    if workspace.artifacts.shared and (busy := _running(workspace)):
        raise ConflictError(
            f"{busy.id} is running, perhaps on another machine that shares these artifacts",
            hint="wait for it; one that was killed is no longer taken for running after a day",
        )
    with nobody_at_work(workspace.root):
        freed = list(_unused(workspace))
        for kind, id, left in freed:
            if kind is None:
                shutil.rmtree(left.path, ignore_errors=True)
            else:
                workspace.artifacts.delete(kind, id)
    return [left for *_, left in freed]


def _running(workspace: Workspace) -> Run | None:
    """Return a run of the last day that has not ended."""
    since = workspace.clock.now() - timedelta(days=1)
    runs = workspace.runs.every(status="running")
    return next((run for run in runs if run.created_at > since), None)


def _bytes_of(workspace: Workspace, kind: Kind, id: str) -> int:
    try:
        return workspace.artifacts.manifest(kind, id).bytes
    except DamagedError:  # it is in the way all the same; of what is here the size is known
        return size_of(workspace.root / kind / id)


def _unused(workspace: Workspace) -> Iterator[tuple[Kind | None, str, LeftOver]]:
    workspace = workspace.whole  # an artifact may be what another project's version stands on
    needed = {
        wanted
        for name in workspace.models.names()
        for version in workspace.models.list(name)
        for wanted in needed_by(lineage(workspace, version.ref))
    }
    for kind in _KINDS:
        for id in workspace.artifacts.ids(kind):
            if (kind, id) not in needed:
                place = workspace.artifacts.place(kind, id)
                yield kind, id, LeftOver(place, _bytes_of(workspace, kind, id), "no version stands on it")
    for folder in sorted((workspace.root / CHECKPOINTS).glob("*")):
        yield (
            None,
            folder.name,
            LeftOver(folder, size_of(folder), "checkpoints of a training that did not finish"),
        )
