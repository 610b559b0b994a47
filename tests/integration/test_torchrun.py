"""``torchrun -m tunery``: two processes type one command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    rows = [
        {
            "input": f"what is {i} plus {i % 7} in shop {i * 37 % 101}",
            "output": ["red", "green", "blue"][i % 3],
        }
        for i in range(120)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"""name: colours
goal: {{metric: accuracy}}
base: {tiny_model}
data: {{sources: [{{path: rows.jsonl}}]}}
train: {{rank: 4, epochs: 8, batch_size: 8, dropout: 0.1, device: cpu, smoke: false, generate_rows: null,
  validation_every: 4, early_stopping: null}}
""",
        encoding="utf-8",
    )
    return path


def command(home: Path, recipe: Path) -> list[str]:
    ranks = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tunery"]
    return [*ranks, "--home", str(home), "train", "run", str(recipe), "--json"]


def trained(home: Path, recipe: Path) -> dict[str, Any]:
    done = subprocess.run(command(home, recipe), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))  # one answer, of rank 0 alone


def losses(adapter: dict[str, Any]) -> list[Any]:
    return [(h["step"], h["train_loss"], h["validation_loss"]) for h in adapter["history"]]


def test_a_command_of_two_ranks_is_one_run_and_goes_on_after_a_sigterm(recipe: Path, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", recipe)
    with subprocess.Popen(
        command(tmp_path / "stopped", recipe), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Step 8/"):
                process.send_signal(signal.SIGTERM)
                break
        said = process.stderr.read()
    assert process.returncode != 0
    assert "the same command continues from there" in said
    again = trained(tmp_path / "stopped", recipe)
    assert losses(again) == losses(whole)
    assert again["sha256"] == whole["sha256"]


def test_a_rank_that_is_killed_ends_the_command_which_then_goes_on(recipe: Path, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", recipe)
    with subprocess.Popen(
        command(tmp_path / "killed", recipe), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Step 8/"):
                os.kill(rank_of(process.pid, 1), signal.SIGKILL)
                break
        left = process.stderr.read()
    assert process.returncode != 0
    assert "continues" in left, left
    again = trained(tmp_path / "killed", recipe)
    assert losses(again) == losses(whole)
    assert again["sha256"] == whole["sha256"]


def rank_of(launcher: int, rank: int) -> int:
    """Return the process of a rank."""
    (found,) = (
        child.pid for child in psutil.Process(launcher).children() if child.environ().get("RANK") == str(rank)
    )
    return found


def test_a_search_is_refused_on_several_ranks(recipe: Path, tmp_path: Path) -> None:
    ranks = command(tmp_path / "home", recipe)[:-4]
    searched = [*ranks, "train", "tune", str(recipe), "--minutes", "1"]
    done = subprocess.run(searched, capture_output=True, text=True, timeout=100)
    assert done.returncode != 0
    assert "cannot be started by torchrun" in done.stderr


def test_a_command_that_trains_nothing_ends_on_every_rank(tmp_path: Path) -> None:
    ranks = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tunery"]
    listed = [*ranks, "--home", str(tmp_path / "home"), "train", "ls", "--json"]
    done = subprocess.run(listed, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
