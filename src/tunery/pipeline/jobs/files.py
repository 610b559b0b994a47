"""Files that clients upload and jobs produce: an artifact folder for the bytes, a row for the rest."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunery.core.batch import BATCH_ENDS
from tunery.core.errors import ConflictError, NotFoundError
from tunery.core.ids import new_id, sha256_file
from tunery.core.job import FINAL_STATUSES, StoredFile
from tunery.core.progress import Silent
from tunery.store.workspace import Workspace

if TYPE_CHECKING:
    from tunery.data.readers.training_file import FileCheck

CONTENT = "content.jsonl"
"""Name of an uploaded file's bytes on disk, whatever the client called it."""
RESULT = "content.csv"
"""Name of a result file's bytes on disk."""
MAX_FILENAME = 200


def store_training_file(
    workspace: Workspace,
    filename: str,
    write: Callable[[Path], None],
    *,
    require: Callable[[Path, str], FileCheck] | None = None,
    life: timedelta | None = None,
) -> StoredFile:
    """Take a training file, check its rows, and keep it only when they are good.

    Args:
        filename: As the client named it; shown, never used as a path.
        write: Writes the bytes to the path it is given.
        require: Checks the bytes at a path, under the client's name for them; within no bound where None.
        life: When it goes, counted from now; None keeps it.

    Raises:
        ConfigError: Rows are not what training can use; says which and why.
        ResourceError: The disk is full.
    """
    from tunery.data.readers.training_file import require_training_file

    file_id = new_id("file", workspace.clock.now())
    display_name = _display_name(filename)
    about: dict[str, Any] = {"filename": display_name, "purpose": "fine-tune"}
    with workspace.artifacts.create("files", file_id, about) as folder:
        write(folder / CONTENT)
        about["shape"] = (require or require_training_file)(folder / CONTENT, display_name).shape
    return _stored(workspace, file_id, CONTENT, display_name, "fine-tune", life)


def store_batch_file(
    workspace: Workspace, filename: str, write: Callable[[Path], None], *, life: timedelta | None = None
) -> StoredFile:
    """Take a file of requests; its lines are looked at when a batch is made of it."""
    file_id, name = new_id("file", workspace.clock.now()), _display_name(filename)
    return store_produced(workspace, file_id, name, "batch", write, life=life)


def store_result(workspace: Workspace, job_id: str, csv: str) -> StoredFile:
    """Keep a job's result file; a job that is finished twice keeps the one it has."""
    file_id = f"file-{job_id.removeprefix('ftjob-')}-result"
    known = workspace.files.find(file_id)
    if known is not None:
        return known
    if workspace.artifacts.whole("files", file_id, Silent()) is None:
        about = {"filename": "step_metrics.csv", "purpose": "fine-tune-results"}
        with workspace.artifacts.create("files", file_id, about) as folder:
            (folder / RESULT).write_text(csv, encoding="utf-8")
    return _stored(workspace, file_id, RESULT, "step_metrics.csv", "fine-tune-results")


def store_produced(
    workspace: Workspace,
    file_id: str,
    filename: str,
    purpose: str,
    write: Callable[[Path], None],
    *,
    life: timedelta | None = None,
) -> StoredFile:
    """Keep a file that was made here; one of that id that is there already is kept and returned.

    Args:
        write: Writes the bytes to the path it is given.
        life: When it goes, counted from now; None keeps it.
    """
    known = workspace.files.find(file_id)
    if known is not None:
        return known
    if workspace.artifacts.whole("files", file_id, Silent()) is None:
        about = {"filename": filename, "purpose": purpose}
        with workspace.artifacts.create("files", file_id, about) as folder:
            write(folder / CONTENT)
    return _stored(workspace, file_id, CONTENT, filename, purpose, life)


def _stored(
    workspace: Workspace,
    file_id: str,
    content: str,
    filename: str,
    purpose: str,
    life: timedelta | None = None,
) -> StoredFile:
    """Record a file whose bytes are in place."""
    path = workspace.artifacts.path("files", file_id) / content
    now = workspace.clock.now()
    return workspace.files.add(
        StoredFile(
            id=file_id,
            filename=filename,
            purpose=purpose,
            bytes=path.stat().st_size,
            sha256=sha256_file(path),
            status="processed",
            created_at=now,
            expires_at=None if life is None else now + life,
        )
    )


def open_content(workspace: Workspace, file_id: str) -> Path:
    """Return the path of a file's bytes.

    Raises:
        NotFoundError: No such file.
    """
    file = workspace.files.get(file_id)  # known ids only: what a client sends never becomes a path
    folder = workspace.artifacts.path("files", file.id)
    for name in (CONTENT, RESULT):
        if (folder / name).is_file():
            return folder / name
    raise NotFoundError(f"the bytes of file {file.id} are gone")


def named_by_id(workspace: Workspace, text: str) -> str:
    """Return a text in which uploaded files go by their ids and others by their place in the home.

    Clients know no other name of them, nor need they know where the server keeps its home.
    """
    places = re.escape(str(workspace.root / "files"))
    named = re.sub(rf"{places}/(file-[\w-]+)/(?:{re.escape(CONTENT)}|{re.escape(RESULT)})", r"\1", text)
    return named.replace(f"{workspace.root}/", "")


def remove_file(workspace: Workspace, file_id: str) -> None:
    """Delete a file.

    Raises:
        NotFoundError: No such file.
        ConflictError: A job that has not ended needs it.
    """
    file = workspace.files.get(file_id)
    for job in workspace.jobs.every():
        used = {job.request.get("training_file"), job.request.get("validation_file")}
        if job.status not in FINAL_STATUSES and file.id in used:
            raise ConflictError(
                f"file {file.id} is needed by job {job.id}, which is {job.status}",
                hint=f"wait for it, or cancel it: tunery jobs cancel {job.id}",
            )
    for batch in workspace.batches.every():
        if batch.input_file_id == file.id and batch.status not in BATCH_ENDS:
            raise ConflictError(
                f"file {file.id} is needed by batch {batch.id}, which is {batch.status}",
                hint=f"wait for it, or cancel it: tunery batches cancel {batch.id}",
            )
    workspace.files.delete(file.id)
    with contextlib.suppress(NotFoundError):
        workspace.artifacts.delete("files", file.id)


def remove_expired(workspace: Workspace) -> list[str]:
    """Delete the files whose life is over, and return their ids; one that is needed goes when it is not."""
    now = workspace.clock.now()
    removed = []
    for file in workspace.files.every():
        if file.expires_at is not None and file.expires_at <= now:
            with contextlib.suppress(ConflictError, NotFoundError):
                remove_file(workspace, file.id)
                removed.append(file.id)
    return removed


def _display_name(filename: str) -> str:
    """Keep the last part of a name, printable characters only."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable())[:MAX_FILENAME]
    return kept or "upload.jsonl"
