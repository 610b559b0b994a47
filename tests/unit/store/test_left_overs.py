"""What killed processes left goes; what running ones hold, and what is finished, stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunery.core.errors import BusyError
from tunery.store.artifacts import Artifacts
from tunery.store.exclusive import exclusive, in_use, nobody_at_work
from tunery.store.left_overs import TUNE, left_overs, scratch_file
from tunery.store.whole_file import write_whole

_WRITER = """
import sys, time
from pathlib import Path
from tunery.store.artifacts import Artifacts
from tunery.store.left_overs import TUNE, scratch_file
from tunery.store.whole_file import write_whole
root = Path(sys.argv[1])
scratch_file(root).write_text("rows")
page_path = root / "reports" / "run.html"
with Artifacts(root).create("adapters", "adapter-1", {}) as folder, write_whole(page_path) as page:
    (folder / "a.txt").write_text("half")
    page.write("half")
    page.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def test_everything_a_killed_process_left_is_found_and_removed_and_nothing_of_a_running_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "reports").mkdir()
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    assert left_overs(tmp_path, remove=True) == []

    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    shown = left_overs(tmp_path, remove=False)
    assert [left.path.parent.name for left in shown] == ["adapters", "reports", "scratch"]
    assert all(left.bytes > 0 and left.path.exists() for left in shown)
    assert [left.path for left in left_overs(tmp_path, remove=True)] == [left.path for left in shown]
    assert not any(left.path.exists() for left in shown)
    assert left_overs(tmp_path, remove=True) == []


def test_checkpoints_go_once_their_adapter_is_finished_and_whole(tmp_path: Path) -> None:
    for name in ("adapter-done", "adapter-torn", "adapter-unfinished"):
        (tmp_path / "checkpoints" / name / "checkpoint-3").mkdir(parents=True)
    for name in ("adapter-done", "adapter-torn"):
        with Artifacts(tmp_path).create("adapters", name, {}) as folder:
            (folder / "a.txt").write_text("weights")
    (tmp_path / "adapters" / "adapter-torn" / "a.txt").write_text("Weights")
    with exclusive(tmp_path, "adapter-done"):
        assert left_overs(tmp_path, remove=True) == []
    assert [left.path.name for left in left_overs(tmp_path, remove=True)] == ["adapter-done"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "adapter-torn",
        "adapter-unfinished",
    ]


def test_a_half_written_file_of_a_killed_process_goes_with_the_next_try(tmp_path: Path) -> None:
    path = tmp_path / "page [1].html"
    (tmp_path / f".{path.name}.0123.partial").write_text("half")
    (tmp_path / ".other.html.0123.partial").write_text("half")
    with write_whole(path) as stream:
        stream.write("whole")
        with write_whole(path) as beside:  # another process writes the same at once
            beside.write("beside")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.html.0123.partial", path.name]
    assert path.read_text() == "whole"


def test_scratch_rows_of_this_process_stay(tmp_path: Path) -> None:
    mine = scratch_file(tmp_path)
    mine.write_text("rows")
    (tmp_path / "scratch" / "999999999-x.rows").write_text("rows")
    scratch_file(tmp_path)
    assert [p.name for p in (tmp_path / "scratch").iterdir()] == [mine.name]


def test_nothing_is_freed_while_artifacts_are_made_and_none_are_made_while_it_is(tmp_path: Path) -> None:
    with (
        in_use(tmp_path),
        in_use(tmp_path),
        pytest.raises(BusyError, match="at work"),
        nobody_at_work(tmp_path),
    ):
        pass
    with nobody_at_work(tmp_path), pytest.raises(BusyError, match="being freed"), in_use(tmp_path):
        pass


def test_trials_of_a_search_go_unless_it_goes_on(tmp_path: Path) -> None:
    for study in ("tune-0000000000000001", "tune-0000000000000002"):
        (tmp_path / TUNE / study / "trial-a").mkdir(parents=True)
        (tmp_path / TUNE / study / "journal.log").write_text("{}\n", encoding="utf-8")
    with exclusive(tmp_path, "tune-0000000000000001"):
        left_overs(tmp_path, remove=True)
    assert sorted(p.name for p in (tmp_path / TUNE).glob("*/*")) == ["journal.log", "journal.log", "trial-a"]
