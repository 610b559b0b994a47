"""Stage 4: dataset version to adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunery.core.dataset import DatasetVersion
from tunery.core.ids import artifact_id, sha256_file
from tunery.core.training import ADAPTER_WEIGHTS, Adapter
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import split_of
from tunery.store.artifacts import RECORD
from tunery.store.exclusive import exclusive
from tunery.train.config import NOT_IN_IDENTITY
from tunery.train.methods.method import TrainingRows
from tunery.train.section import method_of

STAGE_VERSION = 1
"""Raise when equal inputs would give another adapter."""


def adapter_id(context: RunContext, dataset: DatasetVersion) -> str:
    """Return the id that training this recipe on this dataset version gives."""
    return artifact_id(
        "adapter",
        stage="train",
        version=STAGE_VERSION,
        config=context.recipe.train.model_dump(mode="json", exclude=set(NOT_IN_IDENTITY)),
        inputs={"base": context.base.sha256, "dataset": dataset.id},
    )


def training_rows(context: RunContext, dataset: DatasetVersion) -> TrainingRows:
    """Return the splits that training uses, tokenised as the recipe's method wants them."""
    config = context.recipe.train
    train, validation = split_of(context, dataset, "train"), split_of(context, dataset, "validation")
    return method_of(config).rows(config, context.tokenizer, train, validation)


def train(context: RunContext, dataset: DatasetVersion) -> Adapter:
    """Train the adapter, continue an interrupted training, or find the adapter trained before.

    Raises:
        ConfigError: Settings do not fit the base.
        ResourceError: Out of memory or disk, or the loss diverged.
    """
    workspace, identity = context.workspace, adapter_id(context, dataset)
    with exclusive(workspace.root, identity):  # two recipes may differ in their gates alone
        known = _find(context, identity)
        if known is not None:
            context.progress.event(f"adapter {identity} was trained before")
            return known
        checkpoints = workspace.root / "checkpoints" / identity
        about = {"dataset_version": dataset.id, "base": context.base.label}
        with workspace.artifacts.create("adapters", identity, about) as folder:
            adapter = _train_into(context, dataset, folder, checkpoints)
            (folder / RECORD).write_text(adapter.model_dump_json(), encoding="utf-8")
        workspace.adapters.add(adapter)
        shutil.rmtree(checkpoints, ignore_errors=True)  # only now is nothing lost without them
    return adapter


def _find(context: RunContext, identity: str) -> Adapter | None:
    """Return an adapter that is whole on disk, its row written again if a kill came between the two."""
    workspace = context.workspace
    folder = workspace.artifacts.find("adapters", identity)
    if folder is None:
        return None
    known = workspace.adapters.find(identity)
    if known is None:
        known = Adapter.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
        workspace.adapters.add(known)
    return known


def _train_into(context: RunContext, dataset: DatasetVersion, folder: Path, checkpoints: Path) -> Adapter:
    from tunery.train.lora import Folders, train_adapter
    from tunery.train.trainer import Reporting

    config = context.recipe.train
    trained = train_adapter(
        context.base,
        training_rows(context, dataset),
        config=config,
        folders=Folders(folder, checkpoints),
        reporting=Reporting(context.progress, context.should_stop, context.on_checkpoint),
    )
    return Adapter(
        id=adapter_id(context, dataset),
        base=context.base,
        dataset_version=dataset.id,
        config=config.model_dump(mode="json"),
        sha256=sha256_file(folder / ADAPTER_WEIGHTS),
        chat_template_sha256=context.tokenizer.chat_template_sha256,
        system_prompt=dataset.system_prompt,
        **trained._asdict(),
        created_at=context.workspace.clock.now(),
    )
