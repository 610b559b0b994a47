"""Planned memory against trainings of SmolLM2 that are run for it, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "plan_memory.py"


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lora", "dora", "nf4", "full", "dpo", "orpo", "simpo", "kto"])
def test_planned_memory_is_within_15_percent_of_measured(case: str) -> None:
    if case == "nf4":
        pytest.importorskip("bitsandbytes")
    command = [sys.executable, str(BENCHMARK), "--tokens", "512", "--only", case]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    line = next(line for line in ran.stdout.splitlines() if line.startswith(case))
    assert 0.85 <= float(line.split()[-1]) <= 1.15, line
