"""Artifacts: complete or not there, whatever happens while they are made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.errors import ConfigError, DamagedError, NotFoundError, ResourceError
from tunery.core.ids import sha256_file
from tunery.store.artifacts import Artifacts


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path)


def make(artifacts: Artifacts, id: str = "adapter-1", text: str = "weights") -> Path:
    with artifacts.create("adapters", id, {"rank": 8}) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "b.bin").write_bytes(b"\0\1")
    return artifacts.path("adapters", id)


def left_behind(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if path.name.endswith((".partial", ".held"))]


def test_an_artifact_is_complete_with_its_checksums(artifacts: Artifacts, tmp_path: Path) -> None:
    folder = make(artifacts)
    assert folder == tmp_path / "adapters" / "adapter-1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == {
        "kind": "adapters",
        "id": "adapter-1",
        "about": {"rank": 8},
        "files": {
            "a.txt": {"sha256": sha256_file(folder / "a.txt"), "bytes": 7},
            "inner/b.bin": {"sha256": sha256_file(folder / "inner" / "b.bin"), "bytes": 2},
        },
    }
    assert artifacts.about("adapters", "adapter-1") == {"rank": 8}
    assert artifacts.ids("adapters") == ["adapter-1"]
    assert left_behind(tmp_path) == []
    artifacts.path("adapters", "adapter-1")


def test_about_may_be_filled_in_while_the_artifact_is_made(artifacts: Artifacts) -> None:
    about: dict[str, int] = {}
    with artifacts.create("reports", "run-1", about):
        about["rows"] = 3
    assert artifacts.about("reports", "run-1") == {"rows": 3}


def test_nothing_is_there_before_the_block_ends(artifacts: Artifacts) -> None:
    with artifacts.create("adapters", "adapter-1", {}) as folder:
        assert folder.name.endswith(".partial")
        assert artifacts.find("adapters", "adapter-1") is None
        assert artifacts.ids("adapters") == []
    assert artifacts.find("adapters", "adapter-1") is not None


def test_a_block_that_raises_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    def fail() -> None:
        with artifacts.create("adapters", "adapter-1", {}) as folder:
            (folder / "a.txt").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert artifacts.find("adapters", "adapter-1") is None
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_reported_and_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    def fill() -> None:
        with artifacts.create("adapters", "adapter-1", {}) as folder:
            (folder / "a.txt").write_text("half")
            with open("/dev/full", "w") as full:
                full.write("x")

    with pytest.raises(ResourceError, match="disk is full") as caught:
        fill()
    assert str(tmp_path / "adapters" / "adapter-1") in caught.value.message
    assert artifacts.find("adapters", "adapter-1") is None
    assert left_behind(tmp_path) == []


def test_a_changed_a_missing_and_an_added_file_are_reported_at_once(artifacts: Artifacts) -> None:
    folder = make(artifacts)
    (folder / "a.txt").write_text("Weights")
    (folder / "inner" / "b.bin").unlink()
    (folder / "c.pkl").write_text("added")
    with pytest.raises(DamagedError) as caught:
        artifacts.path("adapters", "adapter-1")
    assert "a.txt: checksum differs" in caught.value.message
    assert "inner/b.bin: missing" in caught.value.message
    assert "c.pkl: was not there" in caught.value.message


def test_an_unknown_artifact_names_the_nearest(artifacts: Artifacts) -> None:
    make(artifacts)
    for ask in (artifacts.path, artifacts.damage, artifacts.about):
        with pytest.raises(NotFoundError, match="did you mean 'adapter-1'"):
            ask("adapters", "adapter-2")
    with pytest.raises(NotFoundError):
        artifacts.path("datasets", "adapter-1")


def test_a_damaged_manifest_is_named(artifacts: Artifacts) -> None:
    (make(artifacts) / "manifest.json").write_text('{"files": ')
    with pytest.raises(DamagedError, match=r"manifest\.json: not readable"):
        artifacts.path("adapters", "adapter-1")
    with pytest.raises(DamagedError, match=r"manifest\.json is damaged"):
        artifacts.about("adapters", "adapter-1")


def test_a_deleted_artifact_is_gone_and_may_be_made_again(artifacts: Artifacts, tmp_path: Path) -> None:
    make(artifacts)
    artifacts.delete("adapters", "adapter-1")
    assert artifacts.find("adapters", "adapter-1") is None
    assert left_behind(tmp_path) == []
    artifacts.delete("adapters", "adapter-1")
    make(artifacts)


def test_the_first_of_two_that_make_the_same_is_kept(artifacts: Artifacts, tmp_path: Path) -> None:
    with artifacts.create("adapters", "adapter-1", {}) as slow:
        (slow / "a.txt").write_text("weights of the slow one")
        make(artifacts, text="weights of the fast one")
        assert slow.is_dir()
    assert (artifacts.path("adapters", "adapter-1") / "a.txt").read_text() == "weights of the fast one"
    artifacts.path("adapters", "adapter-1")
    assert left_behind(tmp_path) == []


def test_many_threads_make_the_same_and_others(artifacts: Artifacts, tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        make(artifacts, id=f"adapter-{number % 3}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert artifacts.ids("adapters") == ["adapter-0", "adapter-1", "adapter-2"]
    for id in artifacts.ids("adapters"):
        artifacts.path("adapters", id)
    assert left_behind(tmp_path) == []


_MAKER = """
import sys, time
from pathlib import Path
from tunery.store.artifacts import Artifacts
with Artifacts(Path(sys.argv[1])).create("adapters", "adapter-1", {}) as folder:
    (folder / "a.txt").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_makes_is_not(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    maker = subprocess.Popen([sys.executable, "-c", _MAKER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    assert maker.stdout.readline() == "half\n"
    make(artifacts, id="adapter-2")
    (live,) = (tmp_path / "adapters").glob("*.partial")
    assert (live / "a.txt").read_text() == "half"

    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    assert artifacts.find("adapters", "adapter-1") is None
    make(artifacts, id="adapter-3")
    assert left_behind(tmp_path) == []
    make(artifacts, id="adapter-1")


def test_a_folder_that_lost_its_manifest_is_not_there_and_is_made_again(artifacts: Artifacts) -> None:
    (make(artifacts) / "manifest.json").unlink()
    assert artifacts.find("adapters", "adapter-1") is None
    make(artifacts, text="again")
    artifacts.path("adapters", "adapter-1")


def test_links_and_a_foreign_manifest_are_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    def link() -> None:
        with artifacts.create("adapters", "adapter-1", {}) as folder:
            (folder / "passwd").symlink_to("/etc/passwd")

    def manifest() -> None:
        with artifacts.create("adapters", "adapter-1", {}) as folder:
            (folder / "manifest.json").write_text("{}")

    for attempt, named in ((link, "passwd"), (manifest, "manifest.json")):
        with pytest.raises(ConfigError, match=f"plain files only, not {named}"):
            attempt()
    assert artifacts.find("adapters", "adapter-1") is None
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("id", ["..", "../x", "/etc", "a/b", "a.partial", "", "a\0b", "~", "é", "x" * 200])
def test_an_id_that_could_be_a_path_is_refused_everywhere(
    artifacts: Artifacts, tmp_path: Path, id: str
) -> None:
    def create() -> None:
        with artifacts.create("files", id, {}):
            pytest.fail("a folder was made")

    asks = (artifacts.find, artifacts.path, artifacts.about, artifacts.damage, artifacts.delete)
    for ask in (create, *(lambda ask=ask: ask("files", id) for ask in asks)):
        with pytest.raises(ConfigError, match="not a valid id"):
            ask()
    assert list(tmp_path.iterdir()) == []


@given(id=st.text(max_size=20))
def test_no_id_ever_leaves_its_folder(id: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "anywhere"
    try:
        found = Artifacts(root).find("files", id)
    except ConfigError:
        return
    assert found is None
    assert (root / "files" / id).resolve().parent == (root / "files").resolve()


def test_an_unknown_kind_is_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no kind of artifact"):
        artifacts.find("../other", "id")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
