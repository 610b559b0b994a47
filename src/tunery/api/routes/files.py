"""Files: uploaded rows and produced results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import Field
from starlette.datastructures import FormData, UploadFile
from starlette.types import Receive, Scope, Send

from tunery.api.json_route import JsonRoute
from tunery.api.services import Services, Shared, page_of, unix
from tunery.core.errors import ConfigError
from tunery.core.job import StoredFile
from tunery.pipeline.jobs.files import open_content, remove_file, store_batch_file, store_training_file
from tunery.pipeline.jobs.room import within_room
from tunery.serve.openai.wire import Wire

router = APIRouter(prefix="/files", route_class=JsonRoute)
PURPOSES = ("fine-tune", "batch")
"""What an uploaded file may be for."""
LIFE_S = (3_600, 2_592_000)
"""Shortest and longest life that a client may give a file [s]."""


class FileLife(Wire):
    """When a file goes by itself."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=LIFE_S[0], le=LIFE_S[1])


@router.post("")
async def create_file(request: Request, shared: Shared) -> dict[str, Any]:
    """Take a training file; a file with bad rows is refused with their numbers and leaves nothing behind."""
    # Parsed here and not by FastAPI, so that nothing is spooled for a request that lacks its purpose.
    with shared.uploads.place():
        async with request.form(max_files=1, max_fields=16, max_part_size=64 * 2**10) as form:
            upload = _checked(form)
            store = partial(_store, shared, str(form.get("purpose")), upload, _life(form))
            return await shared.uploads.run(store)


@router.get("")
def list_files(
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    """List files, newest first unless asked otherwise."""
    page = shared.workspace.files.page(
        where={"purpose": purpose}, after=after, limit=limit, oldest_first=order == "asc"
    )
    return page_of([file_object(f) for f in page.items], has_more=page.has_more)


@router.get("/{file_id}")
def retrieve_file(file_id: str, shared: Shared) -> dict[str, Any]:
    """Describe one file."""
    return file_object(shared.workspace.files.get(file_id))


class _WholeFile(FileResponse):
    """All bytes of a file; ranges, which no client asks for, would have errors of another shape."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
        await super().__call__({**scope, "headers": headers}, receive, send)


@router.get("/{file_id}/content")
def retrieve_content(file_id: str, shared: Shared) -> Response:
    """Return a file's bytes."""
    path = open_content(shared.workspace, file_id)
    return _WholeFile(path, media_type="application/octet-stream")


@router.delete("/{file_id}")
def delete_file(file_id: str, shared: Shared) -> dict[str, Any]:
    """Delete a file; datasets made from it stay."""
    remove_file(shared.workspace, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def file_object(file: StoredFile) -> dict[str, Any]:
    """Return OpenAI's file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": unix(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": file.status,
        "status_details": file.status_details,
        "expires_at": unix(file.expires_at),
    }


def _checked(form: FormData) -> UploadFile:
    """Return the upload of a form that is complete.

    Raises:
        ConfigError: The purpose or the file is missing, or the purpose has no use here.
    """
    purpose, upload = form.get("purpose"), form.get("file")
    if purpose not in PURPOSES:
        given = f"{purpose!r:.40}" if isinstance(purpose, str) else "missing"
        raise ConfigError(
            f"purpose is {given}; uploaded files have two uses here, purpose 'fine-tune' and 'batch'",
            param="purpose",
        )
    if not isinstance(upload, UploadFile):
        raise ConfigError("file is missing: send it as the multipart field 'file'", param="file")
    return upload


def _life(form: FormData) -> timedelta | None:
    """Return how long a file is to be kept, None for as long as nobody deletes it.

    Raises:
        ConfigError: It is no life that a file can have.
    """
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise ConfigError("expires_after[anchor] must be 'created_at'", param="expires_after[anchor]")
    count = int(seconds) if isinstance(seconds, str) and seconds.isdecimal() and len(seconds) < 9 else 0
    if not LIFE_S[0] <= count <= LIFE_S[1]:
        raise ConfigError(
            f"expires_after[seconds] must be {LIFE_S[0]:,} to {LIFE_S[1]:,}", param="expires_after[seconds]"
        )
    return timedelta(seconds=count)


def _store(shared: Services, purpose: str, upload: UploadFile, life: timedelta | None) -> dict[str, Any]:
    def copy(target: Path) -> None:
        upload.file.seek(0)
        with target.open("wb") as out:
            shutil.copyfileobj(upload.file, out, 2**20)

    return file_object(store_file(shared, purpose, upload.filename or "upload.jsonl", copy, life))


def store_file(
    shared: Services, purpose: str, filename: str, write: Callable[[Path], None], life: timedelta | None
) -> StoredFile:
    """Keep a file for its purpose, checked where that has a check; a bad one leaves nothing behind.

    Args:
        write: Writes its bytes to the path it is given.
        life: How long it is kept; None for as long as nobody deletes it.
    """
    write = within_room(shared.workspace, write, shared.settings.limits.stored_bytes)
    if purpose == "batch":
        return store_batch_file(shared.workspace, filename, write, life=life)
    require = shared.uploads.checks.require
    return store_training_file(shared.workspace, filename, write, require=require, life=life)
