"""Artifacts that machines share: the same behaviour in memory, in a folder, and in a bucket of moto's S3."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_s3 import bucket
from tunery.core.errors import ConfigError, DamagedError, NotFoundError, ResourceError
from tunery.core.progress import Silent
from tunery.store import remote as module
from tunery.store.artifacts import MANIFEST, Artifacts
from tunery.store.remote import RemoteArtifacts

__all__ = ["bucket"]

CONTENT = {"weights.bin": b"\x00\x01" * 5000, "inner/card.md": b"# card\n", "empty": b""}


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    place = uuid.uuid4().hex
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{place}/home"
    return f"memory://{place}" if request.param == "memory" else f"file://{tmp_path / 'shared'}"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(module, "_KNOWN_S", 0.0)


def opened(root: Path, url: str) -> Artifacts:
    root.mkdir(exist_ok=True)
    return Artifacts(root, remote=RemoteArtifacts(url))


def make(artifacts: Artifacts, id: str = "ds-1", content: dict[str, bytes] = CONTENT) -> None:
    with artifacts.create("datasets", id, {"name": "t"}) as folder:
        for name, data in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def read(folder: Path) -> dict[str, bytes]:
    paths = (p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_what_one_machine_makes_another_finds_lists_and_deletes(url: str, tmp_path: Path) -> None:
    here, there = opened(tmp_path / "here", url), opened(tmp_path / "there", url)
    assert there.ids("datasets") == []
    assert there.find("datasets", "ds-1") is None
    make(here)
    assert there.has("datasets", "ds-1")
    assert there.ids("datasets") == ["ds-1"]
    assert there.about("datasets", "ds-1") == {"name": "t"}
    assert there.manifest("datasets", "ds-1").bytes == sum(map(len, CONTENT.values()))
    assert not (tmp_path / "there" / "datasets" / "ds-1").exists()  # nothing was fetched so far
    folder = there.path("datasets", "ds-1")
    assert folder.parent.parent == tmp_path / "there"
    assert read(folder) == CONTENT
    assert there.damage("datasets", "ds-1") == []
    with pytest.raises(NotFoundError, match="ds-1"):
        there.path("datasets", "ds-2")
    there.delete("datasets", "ds-1")
    assert not here.has("datasets", "ds-1")
    assert here.find("datasets", "ds-1") is None
    with pytest.raises(ConfigError):
        there.has("datasets", "../ds-1")


def test_what_was_made_before_artifacts_were_shared_is_shared_when_it_is_opened(
    url: str, tmp_path: Path
) -> None:
    make(Artifacts(tmp_path / "here"))
    here, there = opened(tmp_path / "here", url), opened(tmp_path / "there", url)
    assert here.has("datasets", "ds-1")
    assert here.ids("datasets") == ["ds-1"]
    assert there.ids("datasets") == []
    assert read(here.path("datasets", "ds-1")) == CONTENT
    assert read(there.path("datasets", "ds-1")) == CONTENT
    there.delete("datasets", "ds-1")
    assert not here.has("datasets", "ds-1")


def test_what_is_damaged_before_it_is_shared_is_named_and_not_shared(url: str, tmp_path: Path) -> None:
    make(Artifacts(tmp_path / "here"))
    (tmp_path / "here" / "datasets" / "ds-1" / "weights.bin").write_bytes(b"other")
    here, there = opened(tmp_path / "here", url), opened(tmp_path / "there", url)
    for _ in range(2):
        with pytest.raises(DamagedError, match=r"weights\.bin: checksum differs"):
            here.path("datasets", "ds-1")
    assert not there.has("datasets", "ds-1")
    make(here)
    assert read(there.path("datasets", "ds-1")) == CONTENT


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_is_named(url: str, tmp_path: Path) -> None:
    here, there = opened(tmp_path / "here", url), opened(tmp_path / "there", url)
    make(here)
    copy = there.path("datasets", "ds-1") / "weights.bin"
    copy.write_bytes(b"other")
    assert there.damage("datasets", "ds-1") == [
        "weights.bin: checksum differs from the manifest's, in the copy here"
    ]
    assert read(there.path("datasets", "ds-1")) == CONTENT
    store = RemoteArtifacts(url)
    files = store._files
    (target,) = [p for p in files.find(f"{store._root}/datasets/ds-1") if p.endswith("weights.bin")]
    files.pipe_file(target, CONTENT["weights.bin"][:-1])
    shutil.rmtree(tmp_path / "there" / "datasets")
    with pytest.raises(DamagedError, match=r"weights\.bin: checksum differs"):
        there.path("datasets", "ds-1")
    assert not (tmp_path / "there" / "datasets" / "ds-1").exists()
    assert there.damage("datasets", "ds-1") == ["weights.bin: checksum differs from the manifest's"]
    files.rm(target)
    with pytest.raises(DamagedError, match=r"weights\.bin: missing"):
        there.path("datasets", "ds-1")
    assert there.whole("datasets", "ds-1", Silent()) is None
    make(there)  # replaces what is damaged
    assert read(opened(tmp_path / "third", url).path("datasets", "ds-1")) == CONTENT
    assert here.damage("datasets", "ds-1") == []


def test_of_two_that_make_one_artifact_at_once_the_first_stays(url: str, tmp_path: Path) -> None:
    here, there = opened(tmp_path / "here", url), opened(tmp_path / "there", url)
    other = {**CONTENT, "weights.bin": b"\x02" * 10}
    with here.create("datasets", "ds-1", {}) as slow:
        for name, data in CONTENT.items():
            (slow / name).parent.mkdir(parents=True, exist_ok=True)
            (slow / name).write_bytes(data)
        make(there, content=other)
    for machine in (here, there):
        assert read(machine.path("datasets", "ds-1")) == other


class Killed(Exception):  # noqa: N818 - an event, not a malfunction
    """Stands for a process that ends at this point."""


@pytest.mark.parametrize("kill_at", [0, 1, 2, 3])
def test_a_killed_upload_is_invisible_and_ended_by_the_next_look(
    url: str, tmp_path: Path, kill_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = opened(tmp_path / "here", url), opened(tmp_path / "there", url)
    written = 0
    put = RemoteArtifacts._call

    def dying(self: RemoteArtifacts, act: Any, **more: Any) -> Any:
        nonlocal written
        if act.__qualname__.startswith(("RemoteArtifacts._put_file", "RemoteArtifacts._put_manifest")):
            if written == kill_at:
                raise Killed
            written += 1
        return put(self, act, **more)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteArtifacts, "_call", dying)
        with pytest.raises(Killed):
            make(here)
    assert not there.has("datasets", "ds-1")
    assert there.find("datasets", "ds-1") is None
    assert here.has("datasets", "ds-1")
    assert read(here.path("datasets", "ds-1")) == CONTENT
    assert read(there.path("datasets", "ds-1")) == CONTENT
    monkeypatch.setattr(module, "STRAY_AGE_S", -3600.0)  # as if a day had passed
    strays = here.strays(remove=True)
    assert len(strays) == (1 if kill_at else 0)
    assert here.strays(remove=False) == []
    assert here.damage("datasets", "ds-1") == []


def test_while_the_store_is_away_copies_are_used_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    here, there = opened(tmp_path / "here", url), opened(tmp_path / "there", url)
    make(here)

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to s3://key:secret@host")

    with monkeypatch.context() as patch:
        for name in ("cat_file", "pipe_file", "put_file", "glob", "open", "rm", "find"):
            patch.setattr(here._remote._files, name, away)  # type: ignore[union-attr]
        assert here.has("datasets", "ds-1")
        assert read(here.path("datasets", "ds-1")) == CONTENT
        with pytest.raises(ResourceError, match="ConnectionError") as caught:
            there.path("datasets", "ds-1")
        assert "secret" not in caught.value.message
        assert "TUNERY_ARTIFACTS" in (caught.value.hint or "")
        with pytest.raises(ResourceError):
            make(here, "ds-2")
    assert not there.has("datasets", "ds-2")
    assert read(here.path("datasets", "ds-2")) == CONTENT  # made already: it is uploaded now
    assert there.has("datasets", "ds-2")


def test_a_manifest_that_leads_out_of_its_folder_is_damage(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    here = opened(tmp_path / "here", url)
    make(here)
    store = RemoteArtifacts(url)
    place = f"{store._root}/datasets/ds-1/{MANIFEST}"
    said = json.loads(store._files.cat_file(place))
    for name in ("../../x", "/etc/passwd", "a//b", "..\\x", ""):
        files = {**said["files"], name: {"sha256": "0" * 64, "bytes": 1}}
        store._files.pipe_file(place, json.dumps({**said, "files": files}).encode())
        with pytest.raises(DamagedError, match="is damaged"):
            opened(tmp_path / "other", url).path("datasets", "ds-1")
    store._files.pipe_file(place, json.dumps({**said, "upload": "../up"}).encode())
    other = opened(tmp_path / "other", url)
    assert other.has("datasets", "ds-1")
    assert other.damage("datasets", "ds-1") == ["manifest.json: not readable"]
    with pytest.raises(DamagedError, match="is damaged"):
        other.path("datasets", "ds-1")
    make(other)
    assert read(opened(tmp_path / "third", url).path("datasets", "ds-1")) == CONTENT


def test_a_damaged_manifest_hides_no_upload_and_stops_no_look_for_strays(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = opened(tmp_path / "here", url)
    make(here)
    store = RemoteArtifacts(url)
    store._files.pipe_file(f"{store._root}/datasets/ds-1/{MANIFEST}", b"broken")
    store._make_folder(f"{store._root}/datasets/old copy/{MANIFEST}")
    store._files.pipe_file(f"{store._root}/datasets/old copy/{MANIFEST}", b"{}")
    monkeypatch.setattr(module, "STRAY_AGE_S", -3600.0)  # as if a day had passed
    assert here.strays(remove=True) == []
    assert len([p for p in store._files.find(f"{store._root}/datasets/ds-1") if p.endswith(".bin")]) == 1
    assert here.ids("datasets") == ["ds-1"]


def test_what_one_store_had_is_shared_by_the_next_one(tmp_path: Path) -> None:
    first, second = (f"memory://{uuid.uuid4().hex}" for _ in range(2))
    make(opened(tmp_path / "here", first))
    here, there = opened(tmp_path / "here", second), opened(tmp_path / "there", second)
    assert here.ids("datasets") == ["ds-1"]
    assert read(here.path("datasets", "ds-1")) == CONTENT
    assert read(there.path("datasets", "ds-1")) == CONTENT
    there.delete("datasets", "ds-1")
    assert not here.has("datasets", "ds-1")


def test_what_is_no_url_or_holds_a_password_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        RemoteArtifacts("/mnt/shared")
    with pytest.raises(ConfigError, match="password has no place") as caught:
        RemoteArtifacts("sftp://me:secret@host/home")
    assert "secret" not in caught.value.message


def test_a_missing_bucket_is_not_made(bucket: str, tmp_path: Path) -> None:
    lost = opened(tmp_path / "here", "s3://no-such-bucket/home")
    with pytest.raises(ResourceError, match="no-such-bucket"):
        make(lost)


_MAKER = """
import sys
from pathlib import Path
from tunery.store.artifacts import Artifacts
from tunery.store.remote import RemoteArtifacts
artifacts = Artifacts(Path(sys.argv[1]), remote=RemoteArtifacts(sys.argv[2]))
for number in range(1000):
    with artifacts.create("datasets", f"ds-{number}", {}) as folder:
        for name in range(4):
            (folder / f"{name}.bin").write_bytes(bytes([name]) * 200_000)
    print(number, flush=True)
"""


@pytest.mark.slow
def test_whatever_is_seen_after_a_sigkill_is_whole(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/{uuid.uuid4().hex}"
    there = opened(tmp_path / "there", url)
    for round_ in range(5):
        root = tmp_path / f"here-{round_}"
        root.mkdir()
        command = [sys.executable, "-c", _MAKER, str(root), url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ}) as maker:
            assert maker.stdout is not None
            maker.stdout.readline()
            time.sleep(0.05 * round_)
            maker.send_signal(signal.SIGKILL)
        seen = there.ids("datasets")
        assert seen
        assert all(there.damage("datasets", id) == [] for id in seen)
        shutil.rmtree(root)
