"""How much one project may keep and have at work: files of clients, and jobs that are not over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from tunery.core.errors import QuotaError
from tunery.core.figures import counted
from tunery.core.job import FINAL_STATUSES, JobStatus
from tunery.store.workspace import Workspace

OPEN_STATUSES = tuple(status for status in get_args(JobStatus) if status not in FINAL_STATUSES)


def within_room(
    workspace: Workspace, write: Callable[[Path], None], most_bytes: int | None
) -> Callable[[Path], None]:
    """Return what writes a file and then refuses one that the project has no room for.

    Args:
        workspace: The project's.
        write: Writes the bytes to the path it is given.
        most_bytes: All the project's files together [bytes]; None for no bound.
    """
    if most_bytes is None:
        return write

    def write_within(path: Path) -> None:
        write(path)
        kept, size = sum(file.bytes for file in workspace.files.every()), path.stat().st_size
        if kept + size > most_bytes:
            raise QuotaError(
                f"this project may keep files of {counted(most_bytes, 'byte')}; it has {kept:,}, and this "
                f"one has {size:,}",
                hint="delete files that are not needed, as in client.files.delete(id)",
            )

    return write_within


def require_place(workspace: Workspace, most: int | None) -> None:
    """Refuse another job where a project has as many as it may that are not over.

    Raises:
        QuotaError: It has.
    """
    if most is None:
        return
    found = sum(len(workspace.jobs.list(limit=most + 1, status=status)) for status in OPEN_STATUSES)
    if found >= most:
        raise QuotaError(
            f"this project may have {counted(most, 'job')} queued, paused or running; it has {found}",
            hint="wait for one to end, or cancel one",
        )
