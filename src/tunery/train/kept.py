"""Adapters of checkpoints that stay with what training made, as plain PEFT folders."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunery.core.training import ADAPTER_CONFIG, ADAPTER_WEIGHTS, KEPT_STEPS, kept_steps, step_folder
from tunery.store.whole_folder import sync_tree


def keep_step(checkpoint: Path, step: int, root: Path, most: int | None) -> None:
    """Copy a sealed checkpoint's adapter, so that it outlives the checkpoint.

    Args:
        checkpoint: Folder of the checkpoint.
        step: It was taken at.
        root: Folder of the training's checkpoints; those of a killed process are gone on from there.
        most: Newest ones to keep; None for all [count].
    """
    folder = root / KEPT_STEPS
    partial = folder / f"step-{step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        shutil.copyfile(checkpoint / name, partial / name)
    sync_tree(partial)
    place = folder / f"step-{step}"
    shutil.rmtree(place, ignore_errors=True)  # of a process that was killed behind the checkpoint before
    partial.rename(place)
    steps = kept_steps(root)
    for old in steps[: -most if most is not None else 0]:
        shutil.rmtree(folder / f"step-{old}")


def hand_over(root: Path, output: Path, last: int) -> None:
    """Put the adapters that were kept beside the one that training made.

    Args:
        root: Folder of the training's checkpoints.
        output: Of what training made.
        last: Its last step; what a killed process had left from beyond it is not taken.
    """
    for step in (step for step in kept_steps(root) if step <= last):
        shutil.copytree(step_folder(root, step), step_folder(output, step))
