"""Cores that others leave, and how many threads follow from that."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunery.core.cores import (
    ThreadChoice,
    allowed_cores,
    is_intel,
    numbers_are_free,
    prepare_threads,
    threads_at_most,
    usable_cores,
)


def test_what_a_user_chose_stays() -> None:
    for own in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}):
        environment = dict(own)
        prepare_threads(environment)
        assert {k: v for k, v in environment.items() if k != "MKL_CBWR"} == own
    environment = {"MKL_CBWR": "AVX2"}
    prepare_threads(environment)
    assert environment["MKL_CBWR"] == "AVX2"
    assert not numbers_are_free(environment)


def test_products_are_kept_equal_only_where_that_is_free() -> None:
    environment: dict[str, str] = {}
    prepare_threads(environment)
    assert ("MKL_CBWR" in environment) is is_intel()
    assert numbers_are_free(environment) is is_intel()


@pytest.mark.parametrize(("vendor", "told"), [("GenuineIntel", True), ("AuthenticAMD", False), ("", False)])
def test_the_maker_is_read_from_what_the_system_says(tmp_path: Path, vendor: str, told: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n", encoding="ascii")
    assert is_intel(tmp_path / "cpuinfo") is told
    assert not is_intel(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("150000 100000", 2), ("max 100000", 99), ("what", 99), ("50000 100000", 1)],
)
def test_a_containers_quota_bounds_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota, encoding="ascii")
    assert usable_cores(tmp_path / "cpu.max") == min(cores, len(allowed_cores()))
    assert usable_cores(tmp_path / "nothing") == len(allowed_cores())


@pytest.mark.parametrize(
    ("wished", "most"), [("1", 1), ("1,4", 1), ("9999", 9999), ("", 9999), ("0", 9999), ("many", 9999)]
)
def test_threads_are_no_more_than_the_user_set(wished: str, most: int) -> None:
    assert threads_at_most({"OMP_NUM_THREADS": wished}) == min(most, usable_cores())


@pytest.mark.parametrize(
    ("most", "free", "threads"),
    [
        (2, [2.0, 2.0], [2, 2]),
        (2, [1.33, 1.0, 1.0], [1, 1, 1]),  # one process that uses a whole core
        (2, [0.4], [1]),  # many
        (2, [1.0, 2.0, 2.0], [1, 1, 2]),  # it has ended: seen twice before it is believed
        (2, [1.0, 2.0, 1.0, 2.0], [1, 1, 1, 1]),  # it comes and goes
        (2, [1.6, 1.6], [2, 2]),  # a little of everything, as on a laptop
        (16, [10.2, 10.2], [10, 10]),
        (16, [8.0, 16.0, 16.0], [8, 8, 16]),
        (1, [0.1, 1.0], [1, 1]),
    ],
)
def test_threads_follow_what_others_leave(most: int, free: list[float], threads: list[int]) -> None:
    choice = ThreadChoice(most)
    got = []
    for cores in free:
        choice.threads = choice._chosen(cores)
        got.append(choice.threads)
    assert got == threads


def test_a_process_that_uses_its_core_is_seen() -> None:
    """Whatever else runs, the cores beside a busy process are fewer by about one."""
    core = sorted(allowed_cores())[0]
    choice = ThreadChoice()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(busy.pid, {core})
        time.sleep(0.6)
        choice.look(after_s=0.0)
        assert choice.threads < len(allowed_cores()) or len(allowed_cores()) == 1
    finally:
        busy.kill()
        busy.wait()
