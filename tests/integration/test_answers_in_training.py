"""Answers judged while training goes on: as evaluation judges them, and without a trace in the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_whole_models import recipe
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.core.training import Adapter
from tunery.evaluate.task import make_task
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import train_recipe
from tunery.pipeline.stages.data import dataset_to_use, split_of
from tunery.pipeline.stages.evaluate import measure, tuned_subject
from tunery.store.workspace import Workspace

SETTINGS: dict[str, Any] = {
    "rank": 4,
    "learning_rate": 1e-2,
    "dropout": 0.1,
    "epochs": 8,
    "validation_every": 4,
    "early_stopping": None,
}


class Killed(Exception):  # noqa: N818 - an event, not a malfunction
    """Stands for a process that ends at this point."""


def trained(
    base: Path, folder: Path, home: str, *, kill: int | None = None, **settings: Any
) -> tuple[RunContext, Adapter]:
    workspace = Workspace.open(folder / home, database_url=f"sqlite:///{folder / home}.db")
    wanted = recipe(base, folder, **{**SETTINGS, **settings})

    def die(step: int, losses: Mapping[str, float]) -> None:
        if step == kill:
            raise Killed

    if kill is not None:
        with pytest.raises(Killed):
            train_recipe(RunContext(wanted, workspace, folder, Silent(), on_checkpoint=die))
    context = RunContext(wanted, workspace, folder, Silent())
    return context, train_recipe(context).adapter


def validations(adapter: Adapter) -> dict[int, float]:
    found = {log.step: log.metrics.get("validation/exact_match") for log in adapter.history}
    return {step: value for step, value in found.items() if value is not None}


@pytest.mark.parametrize("kind", ["lora", "none"])
def test_weights_are_those_of_a_training_without_answers(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    _, asked = trained(tiny_model, tmp_path, "asked", generate_rows=6, adapter=kind)
    _, silent = trained(tiny_model, tmp_path, "silent", adapter=kind)
    assert asked.id != silent.id
    assert asked.sha256 == silent.sha256
    assert not validations(silent)
    assert len(validations(asked)) == sum(log.validation_loss is not None for log in asked.history)


def test_the_best_step_is_chosen_by_answers_that_evaluation_confirms(
    tiny_model: Path, tmp_path: Path
) -> None:
    context, adapter = trained(tiny_model, tmp_path, "home", generate_rows=6, best_by="exact_match")
    found = validations(adapter)
    assert found[adapter.best_step] == max(found.values())
    dataset = dataset_to_use(context)
    task = make_task(
        split_of(context, dataset, "validation"),
        data=f"{dataset.id}/validation",
        config=context.recipe.evaluate,
        main_metric="exact_match",
        labels=dataset.labels,
    )
    judged = measure(context, task, tuned_subject(context, adapter), adapter)
    assert judged.evaluation.metrics["exact_match"].value == found[adapter.best_step]
    ties = [log for log in adapter.history if found.get(log.step) == found[adapter.best_step]]
    assert adapter.best_step == min(ties, key=lambda log: log.validation_loss or 0.0).step


def test_killed_and_continued_it_ends_as_undisturbed(tiny_model: Path, tmp_path: Path) -> None:
    settings = {"generate_rows": 6, "best_by": "exact_match", "early_stopping": 2}
    _, whole = trained(tiny_model, tmp_path, "whole", **settings)
    _, resumed = trained(tiny_model, tmp_path, "resumed", kill=8, **settings)
    assert resumed.sha256 == whole.sha256
    assert (resumed.best_step, resumed.steps) == (whole.best_step, whole.steps)
    assert validations(resumed) == validations(whole)


def test_a_metric_that_is_not_measured_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="generate_rows is not set"):
        recipe(tiny_model, tmp_path, best_by="exact_match")
    with pytest.raises(ConfigError, match=r"train\.best_by"):
        trained(tiny_model, tmp_path, "home", generate_rows=6, best_by="exact_mach")
