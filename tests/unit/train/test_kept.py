"""Adapters of checkpoints outlive them: the newest ones, whole, and none from beyond the training's end."""

from __future__ import annotations

from pathlib import Path

from tunery.core.training import ADAPTER_CONFIG, ADAPTER_WEIGHTS, KEPT_STEPS, kept_steps
from tunery.train.kept import hand_over, keep_step


def checkpoint(root: Path, step: int, weights: str = "") -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADAPTER_WEIGHTS).write_text(weights or f"weights {step}")
    (folder / ADAPTER_CONFIG).write_text("{}")
    (folder / "optimizer.pt.zst").write_text("state")
    return folder


def test_adapters_stay_without_the_state_of_training(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        keep_step(checkpoint(tmp_path, step), step, tmp_path, None)
    assert kept_steps(tmp_path) == [3, 6, 9]
    assert {p.name for p in (tmp_path / KEPT_STEPS / "step-6").iterdir()} == {ADAPTER_WEIGHTS, ADAPTER_CONFIG}


def test_the_oldest_go_where_a_number_is_set(tmp_path: Path) -> None:
    for step in (3, 6, 9, 30):
        keep_step(checkpoint(tmp_path, step), step, tmp_path, 2)
    assert kept_steps(tmp_path) == [9, 30]


def test_what_a_killed_process_left_is_written_again(tmp_path: Path) -> None:
    keep_step(checkpoint(tmp_path, 3, "of before the kill"), 3, tmp_path, None)
    (tmp_path / KEPT_STEPS / "step-6.partial").mkdir()
    assert kept_steps(tmp_path) == [3]
    for step in (3, 6):
        keep_step(checkpoint(tmp_path, step, f"again {step}"), step, tmp_path, None)
    assert kept_steps(tmp_path) == [3, 6]
    assert (tmp_path / KEPT_STEPS / "step-3" / ADAPTER_WEIGHTS).read_text() == "again 3"
    assert not list((tmp_path / KEPT_STEPS).glob("*.partial"))


def test_steps_from_beyond_the_end_are_not_handed_over(tmp_path: Path) -> None:
    root, output = tmp_path / "checkpoints", tmp_path / "adapter"
    output.mkdir()
    for step in (3, 6, 9):
        keep_step(checkpoint(root, step), step, root, None)
    hand_over(root, output, 6)
    assert kept_steps(output) == [3, 6]
    hand_over(tmp_path / "nothing", output, 6)
    assert kept_steps(output) == [3, 6]
