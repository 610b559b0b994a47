"""Uploads in parts through the unmodified client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import openai
import pytest

from tests.integration.live_api import Live, live
from tests.integration.test_api_files import rows
from tests.integration.test_api_surface import unused
from tunery.api.config import ServerSettings
from tunery.pipeline.jobs.parts import end_uploads
from tunery.store.workspace import Workspace


@pytest.fixture
def server(workspace: Workspace, tiny_model: Path) -> Iterator[Live]:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), max_upload_bytes=200_000)
    with live(workspace, tiny_model, settings=settings, open_base=unused) as running:
        yield running


def parts_left(server: Live) -> list[Path]:
    return [p for p in (server.workspace.root / "uploads").rglob("*") if p.is_file()]


def test_the_clients_own_helper_uploads_a_file_in_parts(server: Live, tmp_path: Path) -> None:
    content = rows(400)
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    client = server.client()
    upload = client.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=10_000
    )
    assert (upload.status, upload.bytes, upload.filename) == ("completed", len(content), "train.jsonl")
    assert upload.file is not None
    assert client.files.content(upload.file.id).read() == content
    assert parts_left(server) == []
    again = client.uploads.complete(upload.id, part_ids=["part-x"])
    assert again.file == upload.file


def test_parts_are_joined_in_the_order_asked_for_and_checked(server: Live) -> None:
    client, content = server.client(), rows(20)
    made = client.uploads.create(
        bytes=len(content), filename="b.jsonl", mime_type="text/jsonl", purpose="batch"
    )
    assert made.expires_at == made.created_at + 3600
    second, first = (client.uploads.parts.create(made.id, data=d) for d in (content[100:], content[:100]))
    for wrong, message in (
        ({"part_ids": [first.id]}, "the upload was to have"),
        ({"part_ids": [first.id, first.id]}, "twice"),
        ({"part_ids": [first.id, second.id], "md5": "0" * 32}, "the MD5 of the parts"),
        ({"part_ids": ["../../tunery.db"]}, "not a valid id"),
    ):
        with pytest.raises(openai.BadRequestError, match=message):
            client.uploads.complete(made.id, **wrong)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        client.uploads.complete(made.id, part_ids=["part-none"])
    with pytest.raises(openai.BadRequestError, match="the upload was to have"):
        client.uploads.parts.create(made.id, data=b"one more")
    assert server.workspace.files.list() == []
    digest = hashlib.md5(content).hexdigest()
    done = client.uploads.complete(made.id, part_ids=[first.id, second.id], md5=digest)
    assert done.file is not None
    assert client.files.content(done.file.id).read() == content


def test_an_upload_that_is_given_up_or_too_late_leaves_nothing(server: Live) -> None:
    client = server.client()
    given_up, late = (
        client.uploads.create(bytes=10, filename="a", mime_type="text/jsonl", purpose="batch")
        for _ in range(2)
    )
    for made in (given_up, late):
        client.uploads.parts.create(made.id, data=b"12345")
    assert client.uploads.cancel(given_up.id).status == "cancelled"
    server.workspace.uploads.update(late.id, expires_at=server.workspace.clock.now() - timedelta(seconds=1))
    with pytest.raises(openai.ConflictError, match="expired"):
        client.uploads.parts.create(late.id, data=b"12345")
    end_uploads(server.workspace)
    assert server.workspace.uploads.get(late.id).status == "expired"
    assert parts_left(server) == []
    for made in (given_up, late):
        with pytest.raises(openai.ConflictError):
            client.uploads.complete(made.id, part_ids=[])


def test_what_is_too_large_or_too_many_is_refused(server: Live) -> None:
    client = server.client()
    kinds = {"filename": "a", "mime_type": "text/jsonl"}
    with pytest.raises(openai.BadRequestError, match="200,000 at most"):
        client.uploads.create(bytes=200_001, purpose="batch", **kinds)
    with pytest.raises(openai.BadRequestError):
        client.uploads.create(bytes=5, purpose="vision", **kinds)
    for _ in range(64):
        client.uploads.create(bytes=5, purpose="batch", **kinds)
    with pytest.raises(openai.RateLimitError, match="wait for their parts"):
        client.uploads.create(bytes=5, purpose="batch", **kinds)
