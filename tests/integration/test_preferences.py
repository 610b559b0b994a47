"""Preferences, from pairs to a version: measured while they are learnt, resumed to the bit, over the API."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.pairs import PAIRS, UNPAIRED, pair_recipe
from tunery.core.errors import ConfigError
from tunery.core.progress import Level, Silent
from tunery.core.training import Adapter
from tunery.pipeline.context import RunContext
from tunery.pipeline.jobs.files import store_training_file
from tunery.pipeline.jobs.openai_job import JobBody, job_object, new_job
from tunery.pipeline.loop import run_recipe, train_recipe
from tunery.pipeline.recipe import Recipe, stored_recipe
from tunery.pipeline.stages.data import split_of
from tunery.pipeline.stages.evaluate import predictions_of
from tunery.pipeline.stages.plan import plan_recipe
from tunery.pipeline.stages.rewind import recorded_training, require_recorded, texts_of
from tunery.store.left_overs import CHECKPOINTS
from tunery.store.workspace import Workspace

METHODS = ["dpo", "kto", *(pytest.param(name, marks=pytest.mark.slow) for name in ("orpo", "simpo"))]
"""Every time those that need a reference; the others learn by the same steps without one."""


def recipe(base: Path, folder: Path, **train: Any) -> Recipe:
    return pair_recipe(base, folder, **{"learning_rate": 0.01, **train})


@pytest.mark.parametrize("method", METHODS)
def test_held_out_preferences_come_into_order_and_training_says_so(
    tiny_model: Path, workspace: Workspace, tmp_path: Path, method: str
) -> None:
    wanted = recipe(tiny_model, tmp_path, method=method)
    forecast = plan_recipe(RunContext(wanted, workspace, tmp_path, Silent()))
    run = run_recipe(RunContext(wanted, workspace, tmp_path, Silent()))
    assert run.status in ("succeeded", "refused"), run.error
    adapter = workspace.adapters.get(run.adapter_id or "")
    assert adapter.steps == forecast.steps
    accuracy = [log.metrics["train/preference_accuracy"] for log in adapter.history]
    held_out = [
        log.metrics["validation/preference_accuracy"]
        for log in adapter.history
        if "validation/preference_accuracy" in log.metrics
    ]
    assert accuracy[-1] == held_out[-1] == 1.0
    margins = [log.metrics["train/reward_margin"] for log in adapter.history]
    assert margins[-1] > margins[0]
    training = recorded_training(workspace, run.id)  # and each pair's loss can be looked back at
    rows = require_recorded(training).of_step(1)
    assert sum(row.share for row in rows) == pytest.approx(adapter.history[0].train_loss, rel=1e-5)
    texts = texts_of(workspace, training.dataset, {row.id for row in rows})
    assert all((texts[row.id].rejected or "").startswith("no ") for row in rows)
    if method == "dpo":  # the model begins as its own reference
        first = adapter.history[0]
        assert first.train_loss == pytest.approx(math.log(2), rel=1e-5)
        assert first.metrics["train/reward_margin"] == pytest.approx(0, abs=1e-5)


def test_unpaired_answers_are_learnt_and_only_the_desirable_ones_are_measured(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    wanted = recipe(tiny_model, tmp_path, method="kto", rows=UNPAIRED, epochs=4)
    events: list[str] = []
    context = RunContext(wanted, workspace, tmp_path, Recorded(events))
    run = run_recipe(context)
    assert run.status in ("succeeded", "refused"), run.error
    adapter = workspace.adapters.get(run.adapter_id or "")
    dataset = workspace.datasets.get(run.dataset_version or "")
    assert (dataset.unpaired, sum(dataset.splits.values())) == (True, 60)
    accuracy = [log.metrics["train/preference_accuracy"] for log in adapter.history]
    assert accuracy[-1] == 1.0
    margins = [log.metrics["train/reward_margin"] for log in adapter.history]
    assert margins[-1] > margins[0]
    asked = {p.reference for p in predictions_of(workspace, run.evaluations["tuned"])}
    assert asked
    assert all(reference.startswith("yes") for reference in asked)
    assert any("have a desirable answer to be held against" in event for event in events)


def test_a_method_that_cannot_use_unpaired_answers_says_which_can(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    events: list[str] = []
    plain = recipe(tiny_model, tmp_path, method="sft", rows=UNPAIRED, epochs=1)
    context = RunContext(plain, workspace, tmp_path, Recorded(events))
    adapter = train_recipe(context).adapter
    dataset = workspace.datasets.get(adapter.dataset_version)
    liked = [e for e in split_of(context, dataset, "train") if e.desirable]
    assert 0 < len(liked) < dataset.splits["train"]
    assert adapter.steps == plain.train.total_steps(len(liked))
    assert any("learns the desirable answers alone, train.method=kto" in event for event in events)
    wanted = recipe(tiny_model, tmp_path, method="dpo", rows=UNPAIRED)
    with pytest.raises(ConfigError, match="learns from pairs of answers") as caught:
        train_recipe(RunContext(wanted, workspace, tmp_path, Silent()))
    assert caught.value.hint == "train.method=kto learns from single answers"
    unjudged = [{k: v for k, v in row.items() if k != "label"} for row in UNPAIRED if row["label"]]
    wanted = recipe(tiny_model, tmp_path, method="kto", rows=unjudged)
    with pytest.raises(ConfigError, match="neither say whether their answer is desirable"):
        train_recipe(RunContext(wanted, workspace, tmp_path, Silent()))


class Recorded(Silent):
    """Keeps what a run says."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def event(self, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        self.events.append(message)


class Killed(Exception):  # noqa: N818 - an event, not a malfunction
    """Stands for a process that ends at this point."""


def trained(base: Path, folder: Path, home: str, *, kill_at: int | None = None, **train: Any) -> Adapter:
    opened = Workspace.open(folder / home, database_url=f"sqlite:///{folder / home}.db")
    wanted = recipe(base, folder, **{"method": "dpo", "validation_every": 2, "dropout": 0.1, **train})

    def die(step: int, losses: Mapping[str, float]) -> None:
        if step == kill_at:
            raise Killed

    try:
        if kill_at is not None:
            with pytest.raises(Killed):
                train_recipe(RunContext(wanted, opened, folder, Silent(), on_checkpoint=die))
            (kept,) = (opened.root / CHECKPOINTS).glob("adapter-*/reference.npy")
            assert kept.stat().st_size > 0
        return train_recipe(RunContext(wanted, opened, folder, Silent())).adapter
    finally:
        opened.close()


def test_a_killed_training_goes_on_with_the_reference_it_began_with(tiny_model: Path, tmp_path: Path) -> None:
    whole = trained(tiny_model, tmp_path, "whole")
    resumed = trained(tiny_model, tmp_path, "resumed", kill_at=4)
    assert resumed.sha256 == whole.sha256
    measured = [(log.step, log.train_loss, log.validation_loss, dict(log.metrics)) for log in whole.history]
    assert measured == [
        (log.step, log.train_loss, log.validation_loss, dict(log.metrics)) for log in resumed.history
    ]


@pytest.mark.parametrize("method", METHODS)
def test_accumulated_micro_batches_equal_one_big_batch(tiny_model: Path, tmp_path: Path, method: str) -> None:
    same = {"method": method, "dropout": 0.0}
    whole = trained(tiny_model, tmp_path, "whole", micro_batch_size=6, **same)
    parts = trained(tiny_model, tmp_path, "parts", micro_batch_size=2, **same)
    for a, b in zip(whole.history, parts.history, strict=True):
        assert b.train_loss == pytest.approx(a.train_loss, rel=1e-3)
        margins = [log.metrics["train/reward_margin"] for log in (a, b)]
        assert margins[1] == pytest.approx(margins[0], rel=1e-2, abs=1e-3)
    assert parts.history[-1].metrics == pytest.approx(whole.history[-1].metrics, rel=1e-2, abs=1e-3)


def test_a_fine_tuning_job_of_openais_preference_type(workspace: Workspace) -> None:
    from tunery.core.training import BaseModelInfo

    text = "".join(json.dumps(row) + "\n" for row in PAIRS)
    file = store_training_file(workspace, "rows.jsonl", lambda path: path.write_text(text) and None)
    numbers = {"beta": 0.4, "n_epochs": 2, "learning_rate_multiplier": 0.5, "batch_size": "auto"}
    method = {"type": "dpo", "dpo": {"hyperparameters": numbers}}
    body = JobBody.model_validate({"model": "tiny", "training_file": file.id, "method": method})
    info = BaseModelInfo(name="tiny", sha256="0" * 64, path="/models/tiny", parameters=1)
    made = new_job(body, workspace, info, base_spec="tiny", submitted_by="key")
    train = stored_recipe(made.recipe, where="job").train.model_dump()
    assert (train["method"], train["beta"], train["epochs"], train["learning_rate"]) == ("dpo", 0.4, 2, 5e-5)
    assert job_object(made)["method"]["dpo"]["hyperparameters"]["beta"] == 0.4
