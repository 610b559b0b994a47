"""What the machine has free, as the system tells it, and how fast it is."""

from __future__ import annotations

from pathlib import Path

from tunery.core.free_memory import free_memory_bytes
from tunery.plan.machine import free_disk_bytes, measure_cpu_flops


def system(root: Path, *, available_kb: int | None, **control: str) -> dict[str, Path]:
    """Write the files that tell about memory."""
    proc, cgroup = root / "proc", root / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    if available_kb is not None:
        lines = f"MemTotal: 99 kB\nMemAvailable:    {available_kb} kB\n"
        (proc / "meminfo").write_text(lines, encoding="ascii")
    for name, content in control.items():
        (cgroup / name.replace("_", ".", 1)).write_text(content, encoding="ascii")
    return {"proc": proc, "cgroup": cgroup}


def test_without_a_limit_the_machine_decides(tmp_path: Path) -> None:
    assert free_memory_bytes(**system(tmp_path, available_kb=1000, memory_max="max\n")) == 1000 * 1024


def test_a_containers_limit_holds_and_cached_files_are_free(tmp_path: Path) -> None:
    stat = "anon 100\ninactive_file 30\n"
    told = system(tmp_path, available_kb=1000, memory_max="500\n", memory_current="400\n", memory_stat=stat)
    assert free_memory_bytes(**told) == 500 - 400 + 30


def test_a_wide_limit_does_not_make_memory(tmp_path: Path) -> None:
    told = system(tmp_path, available_kb=1, memory_max="999999999\n", memory_current="0\n")
    assert free_memory_bytes(**told) == 1024


def test_a_system_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    assert free_memory_bytes(**system(tmp_path, available_kb=None)) == 0


def test_disk_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    here, nowhere = free_disk_bytes(tmp_path), free_disk_bytes(tmp_path / "not" / "yet")
    assert here > 0
    assert abs(here - nowhere) < 2**30


def test_the_speed_is_one_that_a_processor_has() -> None:
    assert 1e8 < measure_cpu_flops(seconds=0.05) < 1e14
