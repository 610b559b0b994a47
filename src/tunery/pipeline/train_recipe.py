"""The part of a run that ends with an adapter: data, preflight, training; no baselines, no verdict."""

from __future__ import annotations

from typing import NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.training import Adapter
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.preflight import check_before_training
from tunery.pipeline.stages.train import train


class TrainedAdapter(NamedTuple):
    """An adapter and what it was trained on."""

    dataset: DatasetVersion
    adapter: Adapter


def train_recipe(context: RunContext) -> TrainedAdapter:
    """Train a recipe's adapter, or continue, or find it; a later ``run`` of the recipe finds it too.

    Raises:
        ConfigError: The data or a setting is wrong, or preflight found what would spoil training.
        ResourceError: Out of memory or disk, or the loss diverged.
        KeyboardInterrupt: It was asked to stop; the last checkpoint is kept.
    """
    dataset = make_dataset(context)
    for warning in dataset.warnings:
        context.progress.event(warning, level="warn")
    check_before_training(context, dataset).require()
    return TrainedAdapter(dataset, train(context, dataset))
