"""A search for train settings on a recipe's data; nothing of its trials is kept but what they reached."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError
from tunery.core.ids import artifact_id
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.preflight import check_before_training
from tunery.pipeline.stages.train import dataset_to_train_on, training_splits
from tunery.store.exclusive import exclusive
from tunery.store.left_overs import TRIAL, TUNE, left_overs
from tunery.train.config import TrainConfig, identity_settings
from tunery.train.tune import Report, Searched, Tuned, default_search, parse_search, search


def tune_recipe(context: RunContext, wanted: Sequence[str], *, minutes: float, trials: int) -> Tuned:
    """Search for settings that lower the validation loss of a recipe.

    Args:
        context: Of the recipe.
        wanted: What is searched, as ``rank=8,16`` or ``learning_rate=1e-4:1e-3``; the learning rate and the
            rank where it is empty.
        minutes: Time that this call may take, its data not counted.
        trials: At most, those of earlier calls of the same search included [count].

    Raises:
        ConfigError: There is no validation split, a setting does not take its values, or torchrun started
            several processes.
    """
    from tunery.train.together import require_no_ranks

    require_no_ranks("a search")
    if context.recipe.train.start_from is not None:
        raise ConfigError(
            "a search tries one training, and train.start_from puts another before it",
            hint="search the settings of either by itself: train.start_from=null",
        )
    for text in wanted:
        parse_search(text, context.recipe.train)  # before time goes into the data
    dataset = dataset_to_train_on(context)
    config = context.recipe.train
    searched = tuple(parse_search(text, config) for text in wanted) or default_search(config)
    check_before_training(context, dataset).require()
    if not dataset.splits.get("validation"):
        raise ConfigError(
            "a search compares validation losses, and there is no validation split",
            hint="data.split.validation=0.1",
        )
    study = _study_id(context, dataset, searched)
    folder = context.workspace.root / TUNE / study
    left_overs(context.workspace.root, remove=True)
    with exclusive(context.workspace.root, study):
        return search(
            study,
            folder / "journal.log",
            searched,
            config,
            trial_of=lambda tried, report: _train(context, dataset, tried, folder, report),
            until=time.monotonic() + 60 * minutes,
            trials=trials,
        )


def _study_id(context: RunContext, dataset: DatasetVersion, searched: Sequence[Searched]) -> str:
    return artifact_id(
        "tune",
        stage="tune",
        version=1,
        config={
            "train": identity_settings(context.recipe.train),
            "searched": [list(one) for one in searched],
        },
        inputs={"base": context.base.sha256, "dataset": dataset.id},
    )


def _train(
    context: RunContext, dataset: DatasetVersion, config: TrainConfig, folder: Path, report: Report
) -> None:
    from tunery.train.reporting import Reporting
    from tunery.train.together import train_together
    from tunery.train.training import Folders

    # Trials tell what learns, and are compared by their losses.
    alone = {"smoke": False, "generate_rows": None, "best_by": "loss"}
    config = config.model_copy(update=alone)
    tried = replace(context, recipe=context.recipe.model_copy(update={"train": config}))
    rows = training_splits(tried, dataset).rows
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=TRIAL) as scratch,
        context.signals_held() as stopped,
    ):
        output = Path(scratch) / "adapter"
        output.mkdir()
        train_together(
            context.base,
            rows,
            config=config,
            folders=Folders(output, Path(scratch) / "checkpoints"),
            reporting=Reporting(
                Silent(),
                lambda: stopped() or context.should_stop(),
                on_point=lambda point: (
                    report(point["validation_loss"]) if "validation_loss" in point else None
                ),
            ),
        )
