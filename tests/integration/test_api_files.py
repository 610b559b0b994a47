"""Files through the unmodified client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.integration.live_api import Live, live
from tests.integration.test_api_surface import is_error, unused
from tunery.api.config import ServerSettings
from tunery.pipeline.jobs.files import remove_expired
from tunery.store.workspace import Workspace


def rows(count: int) -> bytes:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"card {i}"},
                {"role": "assistant", "content": "card arrival"},
            ]
        }
        for i in range(count)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture
def server(workspace: Workspace, tiny_model: Path) -> Iterator[Live]:
    settings = ServerSettings(port=0, run_jobs=False, base=str(tiny_model), max_upload_bytes=200_000)
    with live(workspace, tiny_model, settings=settings, open_base=unused) as running:
        yield running


def test_a_file_is_uploaded_listed_read_back_and_deleted(server: Live, tmp_path: Path) -> None:
    client, content = server.client(), rows(20)
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    made = client.files.create(file=path, purpose="fine-tune")
    assert (made.bytes, made.filename, made.purpose) == (len(content), "train.jsonl", "fine-tune")
    assert client.files.wait_for_processing(made.id).status == "processed"
    assert client.files.content(made.id).read() == content
    assert server.workspace.files.get(made.id).sha256 == hashlib.sha256(content).hexdigest()
    assert [f.id for f in client.files.list()] == [made.id]
    assert client.files.delete(made.id).deleted
    assert list(client.files.list()) == []
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)
    assert server.workspace.artifacts.ids("files") == []


def test_files_are_listed_in_pages_in_either_order(server: Live) -> None:
    client = server.client()
    made = [client.files.create(file=(f"{i}.jsonl", rows(10)), purpose="fine-tune").id for i in range(5)]
    assert [f.id for f in client.files.list(limit=2)] == made[::-1]
    assert [f.id for f in client.files.list(limit=2, order="asc")] == made
    assert list(client.files.list(purpose="fine-tune-results")) == []


def test_a_bad_file_is_refused_with_row_numbers_and_leaves_nothing(server: Live) -> None:
    content = rows(12).replace(b'"card 3"', b"7").replace(b'"card 8"', b'"card 8')
    with pytest.raises(openai.BadRequestError) as error:
        server.client().files.create(file=("train.jsonl", content), purpose="fine-tune")
    assert "row 4" in error.value.message
    assert "row 9" in error.value.message
    assert server.workspace.artifacts.ids("files") == []
    assert [p for p in (server.workspace.root / "files").iterdir() if p.is_dir()] == []
    assert server.workspace.files.list() == []


def test_an_upload_over_the_cap_is_413(server: Live) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        server.client().files.create(file=("big.jsonl", rows(5_000)), purpose="fine-tune")
    assert error.value.status_code == 413
    assert "over the limit" in error.value.message


def test_forms_that_lack_something_say_what(server: Live) -> None:
    with server.http() as http:
        file = {"file": ("a.jsonl", rows(10))}
        assert is_error(http.post("/v1/files", files=file), 400)["param"] == "purpose"
        assert is_error(http.post("/v1/files", data={"purpose": "fine-tune"}), 400)["param"] == "file"
        other = http.post("/v1/files", data={"purpose": "vision"}, files=file)
        assert "'vision'" in (is_error(other, 400)["message"] or "")
        is_error(http.post("/v1/files", content=b"no form"), 400)
        broken = {"content-type": "multipart/form-data; boundary=x"}
        is_error(http.post("/v1/files", content=b"no boundary", headers=broken), 400)


@pytest.mark.parametrize("name", ["../../evil.jsonl", "/etc/passwd", "a\\..\\b.jsonl", "c\x00d.jsonl"])
def test_no_name_from_a_request_reaches_the_file_system(server: Live, name: str) -> None:
    made = server.client().files.create(file=(name, rows(10)), purpose="fine-tune")
    assert "/" not in made.filename
    assert "\\" not in made.filename
    written = {p for p in server.workspace.root.parent.rglob("*") if p.is_file()}
    folder = server.workspace.artifacts.path("files", made.id)
    assert {p.name for p in written if p.is_relative_to(folder)} == {"content.jsonl", "manifest.json"}
    journals = server.workspace.journals  # whose names the server makes
    beside = {p.name for p in written if not p.is_relative_to(folder) and not p.is_relative_to(journals)}
    assert all(n == ".lock" or n.startswith("tunery.db") for n in beside), beside


@pytest.mark.parametrize("file_id", ["..%2f..%2fetc", "file-..", "%00", "file-none"])
def test_ids_that_are_paths_are_refused(server: Live, file_id: str) -> None:
    with server.http() as http:
        for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
            answer = http.get(path)
            assert answer.status_code in {400, 404}, answer.text
            assert set(answer.json()) == {"error"}


def test_a_file_goes_when_its_life_is_over(server: Live) -> None:
    client = server.client()
    made = client.files.create(
        file=("a.jsonl", rows(10)),
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert made.expires_at == made.created_at + 3600
    kept = client.files.create(file=("b.jsonl", b"any line\n"), purpose="batch")
    assert kept.expires_at is None
    for seconds in (3599, 2_592_001):
        with pytest.raises(openai.BadRequestError, match="3,600 to 2,592,000"):
            client.files.create(
                file=("a.jsonl", rows(10)),
                purpose="fine-tune",
                expires_after={"anchor": "created_at", "seconds": seconds},
            )
    assert remove_expired(server.workspace) == []
    server.workspace.files.update(made.id, expires_at=server.workspace.clock.now())
    assert remove_expired(server.workspace) == [made.id]
    assert [f.id for f in client.files.list()] == [kept.id]
    assert server.workspace.artifacts.ids("files") == [kept.id]
