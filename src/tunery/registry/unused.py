"""What no version needs: artifacts that may be freed because the same recipe makes them again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from tunery.core.errors import ConflictError
from tunery.core.job import FINAL_STATUSES
from tunery.registry.lineage import lineage, needed_by
from tunery.store.artifacts import Kind
from tunery.store.exclusive import nobody_at_work
from tunery.store.left_overs import CHECKPOINTS, LeftOver, size_of
from tunery.store.workspace import Workspace

_KINDS: tuple[Kind, ...] = ("datasets", "adapters", "evaluations", "inspections")
"""Not what people reviewed, judges were paid for or clients uploaded: that is not made again by itself."""


def unused(workspace: Workspace) -> list[LeftOver]:
    """Return what no registered version stands on, and the checkpoints of unfinished trainings."""
    return [left for _, left in _unused(workspace)]


def free_unused(workspace: Workspace) -> list[LeftOver]:
    """Remove what :func:`unused` returns, and return it.

    Raises:
        ConflictError: A job is waiting or running, or another process makes artifacts right now.
    """
    for job in workspace.jobs.every():
        if job.status not in FINAL_STATUSES:
            raise ConflictError(
                f"job {job.id} is {job.status} and may need what nothing else does",
                hint=f"wait for it, or tunery jobs cancel {job.id}",
            )
    with nobody_at_work(workspace.root):
        freed = list(_unused(workspace))
        for kind, left in freed:
            if kind is None:
                shutil.rmtree(left.path, ignore_errors=True)
            else:
                workspace.artifacts.delete(kind, left.path.name)
    return [left for _, left in freed]


def _unused(workspace: Workspace) -> Iterator[tuple[Kind | None, LeftOver]]:
    needed = {
        wanted
        for name in workspace.models.names()
        for version in workspace.models.list(name)
        for wanted in needed_by(lineage(workspace, version.ref))
    }
    for kind in _KINDS:
        for id in workspace.artifacts.ids(kind):
            if (kind, id) not in needed:
                folder = workspace.artifacts.folder(kind, id)
                yield kind, LeftOver(folder, size_of(folder), "no version stands on it")
    for folder in sorted((workspace.root / CHECKPOINTS).glob("*")):
        yield None, LeftOver(folder, size_of(folder), "checkpoints of a training that did not finish")
