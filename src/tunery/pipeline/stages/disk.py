"""Is there room on the disk for what a recipe's trainings will write? Asked before anything is computed."""

from __future__ import annotations

from pathlib import Path

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ResourceError
from tunery.core.figures import size
from tunery.model.shape import BaseShape, read_shape
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.train import adapter_id, trainings
from tunery.plan.disk import CHECKPOINTS, TrainingDisk, training_disk
from tunery.plan.machine import free_disk_bytes
from tunery.store.left_overs import CHECKPOINTS as CHECKPOINTS_FOLDER
from tunery.store.left_overs import size_of
from tunery.train.budget import training_of
from tunery.train.config import TrainConfig


def check_disk(context: RunContext, dataset: DatasetVersion) -> None:
    """Compare what the recipe's trainings will write with what is free.

    Adapters that are there already are not counted, nor is what an interrupted training has written.

    Raises:
        ResourceError: It is more than is free.
    """
    root = context.workspace.root
    shape = read_shape(Path(context.base.path), parameters=context.base.parameters)
    kept = needed = 0
    largest: TrainingDisk | None = None
    for config in trainings(context.recipe.train):
        identity = adapter_id(context, dataset, config)
        if context.workspace.artifacts.has("adapters", identity):
            continue
        disk = _disk_of(config, shape, dataset.splits.get("train", 0))
        written = root / CHECKPOINTS_FOLDER / identity
        most = kept + disk.most - (size_of(written) if written.is_dir() else 0)
        if most > needed:
            needed, largest = most, disk
        kept += disk.adapter  # its checkpoints go before the next training begins
    free = free_disk_bytes(root)
    if largest is not None and needed > free:
        raise ResourceError(
            f"training will write up to {size(needed)} to {root}: {CHECKPOINTS} checkpoints of up to "
            f"{size(largest.checkpoint)} at once, and {size(largest.adapter)} of what comes out; "
            f"{size(free)} are free",
            hint="tunery gc frees what nothing needs any more; or set TUNERY_HOME to a larger disk",
        )


def _disk_of(config: TrainConfig, shape: BaseShape, rows: int) -> TrainingDisk:
    return training_disk(
        training_of(config, shape, "cpu").trained,
        kept=config.kept_checkpoints(config.total_steps(rows)),
        row_steps=rows * config.epochs,
        merged=shape.parameters if config.merge and config.adapter != "none" else 0,
    )
