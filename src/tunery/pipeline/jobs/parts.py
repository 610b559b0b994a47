"""Files that come in parts: each part lies on the disk until all of them become one file."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from tunery.core.errors import ConfigError, ConflictError, LimitError, NotFoundError
from tunery.core.ids import check_id, new_id
from tunery.core.job import StoredFile, Upload, UploadPart
from tunery.pipeline.jobs.files import remove_file
from tunery.store.workspace import Workspace

MAX_PART_BYTES = 64 * 2**20
"""Size of one part at most, OpenAI's [bytes]."""
LIFE = timedelta(hours=1)
"""How long an upload waits for its parts, as OpenAI's does."""
_MOST_PENDING = 64
"""Uploads that may wait for parts at once, in one project [count]."""
_COPY_BYTES = 2**20
_FOLDER = "uploads"


def begin_upload(workspace: Workspace, upload: Upload) -> Upload:
    """Take an upload whose parts are to come.

    Raises:
        LimitError: Too many wait for parts already.
    """
    if len(workspace.uploads.list(limit=_MOST_PENDING, status="pending")) >= _MOST_PENDING:
        raise LimitError(
            f"{_MOST_PENDING} uploads wait for their parts, and that is the limit",
            hint="complete or cancel some of them",
        )
    return workspace.uploads.add(upload)


def require_pending(workspace: Workspace, upload_id: str) -> Upload:
    """Return an upload that waits for parts.

    Raises:
        NotFoundError: No such upload.
        ConflictError: It takes no more parts.
    """
    upload = workspace.uploads.get(upload_id)
    over = upload.status == "pending" and upload.expires_at <= workspace.clock.now()
    if over or upload.status != "pending":
        raise ConflictError(f"upload {upload.id} is {'expired' if over else upload.status}")
    return upload


def add_part(workspace: Workspace, upload_id: str, content: BinaryIO) -> UploadPart:
    """Keep one part of an upload.

    Raises:
        NotFoundError: No such upload.
        ConflictError: It takes no more parts.
        ConfigError: The part is too large, or more than the upload said.
    """
    upload = require_pending(workspace, upload_id)
    now = workspace.clock.now()
    part = UploadPart(id=new_id("part", now), created_at=now, upload_id=upload.id)
    folder = _folder(workspace, upload)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{part.id}.partial"
    try:
        with partial.open("wb") as out:
            shutil.copyfileobj(content, out, _COPY_BYTES)
        size = partial.stat().st_size
        if size > MAX_PART_BYTES:
            raise ConfigError(
                f"the part has {size:,} bytes, and {MAX_PART_BYTES:,} is the most", param="data"
            )
        there = sum(p.stat().st_size for p in folder.iterdir() if p.suffix != ".partial")
        if there + size > upload.bytes:
            raise ConfigError(
                f"the parts have {there + size:,} bytes, and the upload was to have {upload.bytes:,}",
                param="data",
            )
        partial.rename(folder / part.id)
    finally:
        partial.unlink(missing_ok=True)
    return part


def complete_upload(
    workspace: Workspace,
    upload_id: str,
    part_ids: Sequence[str],
    md5: str | None,
    store: Callable[[Upload, Callable[[Path], None]], StoredFile],
) -> Upload:
    """Join an upload's parts to a file; asked again, return what it became.

    Args:
        part_ids: Its parts in their order.
        md5: Of the whole, in hexadecimal, where the client sent one.
        store: Keeps the file for the upload's purpose; is given what writes its bytes to a path.

    Raises:
        NotFoundError: No such upload.
        ConflictError: It was cancelled, or its time is over.
        ConfigError: Parts are missing, or they are not what the client said.
    """
    if (known := workspace.uploads.get(upload_id)).status == "completed":
        return known
    upload = require_pending(workspace, upload_id)
    paths = _paths(workspace, upload, part_ids)

    def write(target: Path) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with target.open("wb") as out:
            for path in paths:
                with path.open("rb") as part:
                    while chunk := part.read(_COPY_BYTES):
                        digest.update(chunk)
                        out.write(chunk)
        if md5 is not None and digest.hexdigest() != md5.lower():
            raise ConfigError(f"the MD5 of the parts is {digest.hexdigest()}, not {md5}", param="md5")

    file = store(upload, write)
    ended = workspace.uploads.change(
        upload.id,
        lambda u: u.with_(status="completed", file_id=file.id) if u.status == "pending" else u,
    )
    if ended.file_id != file.id:  # completed or cancelled by another request meanwhile
        remove_file(workspace, file.id)
    if ended.status != "completed":
        raise ConflictError(f"upload {upload.id} is {ended.status}")
    _forget(workspace, upload)
    return ended


def cancel_upload(workspace: Workspace, upload_id: str) -> Upload:
    """Give an upload up; its parts are deleted.

    Raises:
        NotFoundError: No such upload.
        ConflictError: It was completed.
    """

    def cancel(upload: Upload) -> Upload:
        if upload.status == "completed":
            raise ConflictError(f"upload {upload.id} is completed; delete its file instead")
        return upload.with_(status="cancelled")

    upload = workspace.uploads.change(upload_id, cancel)
    _forget(workspace, upload)
    return upload


def end_uploads(workspace: Workspace) -> None:
    """Delete the parts of uploads whose time is over."""
    now = workspace.clock.now()
    for upload in workspace.uploads.list(limit=1_000, status="pending"):
        if upload.expires_at <= now:
            workspace.uploads.update(upload.id, status="expired")
            _forget(workspace, upload)


def _paths(workspace: Workspace, upload: Upload, part_ids: Sequence[str]) -> list[Path]:
    folder = _folder(workspace, upload)
    paths = [folder / check_id(part_id, "part") for part_id in part_ids]
    for part_id, path in zip(part_ids, paths, strict=True):
        if not path.is_file():
            raise NotFoundError(f"no part {part_id!r:.80} of upload {upload.id} is here", param="part_ids")
    if len(set(part_ids)) < len(part_ids):
        raise ConfigError("part_ids names a part twice", param="part_ids")
    size = sum(path.stat().st_size for path in paths)
    if size != upload.bytes:
        raise ConfigError(
            f"the parts have {size:,} bytes, and the upload was to have {upload.bytes:,}", param="part_ids"
        )
    return paths


def _folder(workspace: Workspace, upload: Upload) -> Path:
    return workspace.root / _FOLDER / check_id(upload.id, "upload")


def _forget(workspace: Workspace, upload: Upload) -> None:
    shutil.rmtree(_folder(workspace, upload), ignore_errors=True)
