"""Who a process is, and words for how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tunery.pipeline.jobs.processes import (
    how_it_ended,
    is_gone,
    kill_if_ours,
    kills_for_memory,
    last_words,
    machine_identity,
    process_identity,
    this_process,
)


def sleeping() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_a_process_is_gone_once_it_has_ended_and_not_before() -> None:
    with sleeping() as process:
        named = f"{machine_identity()}/{process_identity(process.pid)}"
        assert not is_gone(named)
        assert not is_gone(f"{named}/more")
        process.kill()
        process.wait()
        assert is_gone(named)
        assert is_gone(f"{named}/more")
    assert not is_gone(this_process())


def test_only_the_very_process_of_this_machine_is_killed() -> None:
    with sleeping() as process:
        identity = process_identity(process.pid)
        for named in ("", "rubbish", f"elsewhere:1/{identity}", f"{machine_identity()}/{process.pid}-1"):
            assert not kill_if_ours(named)
        assert process.poll() is None
        assert kill_if_ours(f"{machine_identity()}/{identity}\n")
        assert process.wait() == -signal.SIGKILL


def test_a_killed_worker_is_said_to_have_had_too_little_memory() -> None:
    assert "most likely" in how_it_ended(-9)
    assert "memory" in how_it_ended(-9)
    assert "the kernel killed it" in how_it_ended(-9, memory_ran_out=True)
    assert how_it_ended(-64) == "signal SIGRTMAX"
    assert how_it_ended(-200) == "signal 200"
    assert how_it_ended(3) == "exit code 3"
    assert kills_for_memory() >= 0


def test_the_last_words_are_those_of_this_attempt(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    assert last_words(log, 0) == ""
    log.write_text("of before\nof now\n" + "x" * 3000 + os.linesep + "the end\n", encoding="utf-8")
    assert last_words(log, 10).endswith("the end")
    assert len(last_words(log, 10)) <= 2000
    assert "of before" not in last_words(log, 10)
