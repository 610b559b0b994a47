"""Uploads in parts: for files that one request does not bring."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.datastructures import UploadFile

from tunery.api.json_route import JsonRoute
from tunery.api.routes.files import FileLife, file_object, store_file
from tunery.api.services import Services, Shared, unix
from tunery.core.errors import ConfigError
from tunery.core.ids import new_id
from tunery.core.job import StoredFile, Upload
from tunery.pipeline.jobs.parts import (
    LIFE,
    add_part,
    begin_upload,
    cancel_upload,
    complete_upload,
    require_pending,
)
from tunery.serve.openai.wire import Name, Wire

router = APIRouter(prefix="/uploads", route_class=JsonRoute)


class UploadBody(Wire):
    """``POST /uploads``."""

    bytes: int = Field(ge=1, lt=2**53)
    filename: Annotated[Name, StringConstraints(min_length=1, max_length=512)]
    mime_type: Annotated[Name, StringConstraints(max_length=128)]
    purpose: Literal["fine-tune", "batch"]
    expires_after: FileLife | None = None


class CompleteBody(Wire):
    """``POST /uploads/{id}/complete``."""

    part_ids: Annotated[list[Annotated[Name, StringConstraints(max_length=128)]], Field(max_length=10_000)]
    md5: Annotated[Name, StringConstraints(max_length=64)] | None = None


@router.post("")
def create_upload(body: UploadBody, shared: Shared) -> dict[str, Any]:
    """Take an upload whose parts are to come within an hour."""
    most = shared.settings.max_upload_bytes
    if body.bytes > most:
        raise ConfigError(f"bytes is {body.bytes:,}, and a file has {most:,} at most", param="bytes")
    now = shared.workspace.clock.now()
    upload = Upload(
        id=new_id("upload", now),
        created_at=now,
        expires_at=now + LIFE,
        filename=body.filename,
        purpose=body.purpose,
        bytes=body.bytes,
        file_life_s=body.expires_after.seconds if body.expires_after else None,
    )
    return upload_object(begin_upload(shared.workspace, upload), None)


@router.post("/{upload_id}/parts")
async def create_part(upload_id: str, request: Request, shared: Shared) -> dict[str, Any]:
    """Take one part of an upload, of at most 64 MB."""
    with shared.uploads.place():
        # Before a byte of it is taken.
        await shared.uploads.run(partial(require_pending, shared.workspace, upload_id))
        async with request.form(max_files=1, max_fields=4, max_part_size=64 * 2**10) as form:
            data = form.get("data")
            if not isinstance(data, UploadFile):
                raise ConfigError("data is missing: send it as the multipart field 'data'", param="data")
            part = await shared.uploads.run(partial(add_part, shared.workspace, upload_id, data.file))
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": unix(part.created_at),
        "upload_id": part.upload_id,
    }


@router.post("/{upload_id}/complete")
async def complete(upload_id: str, body: CompleteBody, shared: Shared) -> dict[str, Any]:
    """Join the parts to a file, which is checked as an uploaded one is."""

    def store(upload: Upload, write: Callable[[Path], None]) -> StoredFile:
        life = None if upload.file_life_s is None else timedelta(seconds=upload.file_life_s)
        return store_file(shared, upload.purpose, upload.filename, write, life)

    work = partial(complete_upload, shared.workspace, upload_id, body.part_ids, body.md5, store)
    with shared.uploads.place():
        ended = await shared.uploads.run(work)
    return upload_object(ended, _file_of(shared, ended))


@router.post("/{upload_id}/cancel")
def cancel(upload_id: str, shared: Shared) -> dict[str, Any]:
    """Give an upload up; its parts are deleted."""
    return upload_object(cancel_upload(shared.workspace, upload_id), None)


def _file_of(shared: Services, upload: Upload) -> StoredFile | None:
    return None if upload.file_id is None else shared.workspace.files.find(upload.file_id)


def upload_object(upload: Upload, file: StoredFile | None) -> dict[str, Any]:
    """Return OpenAI's upload object."""
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": unix(upload.created_at),
        "expires_at": unix(upload.expires_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": None if file is None else file_object(file),
    }
