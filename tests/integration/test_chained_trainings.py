"""Supervised, then preference training by one recipe: two adapters, the second going on from the first."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.pairs import pair_recipe
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.core.training import ADAPTER_WEIGHTS, Adapter
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe, train_recipe
from tunery.pipeline.recipe import Recipe, stored_recipe
from tunery.pipeline.stages.plan import plan_recipe
from tunery.pipeline.stages.tune import tune_recipe
from tunery.store.adapters import adapter_folder
from tunery.store.workspace import Workspace

FIRST = {
    "method": "sft",
    "epochs": 2,
    "learning_rate": 0.01,
    "batch_size": 6,
    "validation_every": 2,
    "neftune_alpha": 5.0,  # drawn anew in every step, so a resumed run has to draw the same
    "label_smoothing": 0.1,
}


def recipe(base: Path, folder: Path, **train: Any) -> Recipe:
    settings = {"method": "dpo", "epochs": 2, "validation_every": 2, "dropout": 0.1, "start_from": FIRST}
    return pair_recipe(base, folder, **{**settings, **train})


class Killed(Exception):  # noqa: N818 - an event, not a malfunction
    """Stands for a process that ends at this point."""


class Chained:
    """A home in which the recipe is trained, after one process for each of ``kills`` ended there."""

    def __init__(
        self, base: Path, folder: Path, home: str, *, kills: tuple[int, ...] = (), **train: Any
    ) -> None:
        self.workspace = Workspace.open(folder / home, database_url=f"sqlite:///{folder / home}.db")
        wanted = recipe(base, folder, **train)
        for kill in kills:
            saved = itertools.count(1)

            def die(step: int, losses: Mapping[str, float], saved: Any = saved, kill: int = kill) -> None:
                if next(saved) == kill:
                    raise Killed

            with pytest.raises(Killed):
                train_recipe(RunContext(wanted, self.workspace, folder, Silent(), on_checkpoint=die))
        self.second: Adapter = train_recipe(RunContext(wanted, self.workspace, folder, Silent())).adapter
        self.first: Adapter = self.workspace.adapters.get(self.second.start_adapter or "")

    def folder(self, adapter: Adapter) -> Path:
        return adapter_folder(self.workspace, adapter)


def test_a_recipe_killed_in_either_training_ends_with_the_weights_of_an_undisturbed_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    whole = Chained(tiny_model, tmp_path, "whole")
    assert (whole.first.config["method"], whole.first.start_adapter) == ("sft", None)
    assert whole.first.config["rank"] == whole.second.config["rank"] == 4
    losses = [log.train_loss or 0.0 for log in whole.first.history]
    assert losses[-1] < losses[0]
    saved = sum(log.validation_loss is not None for log in whole.first.history)
    # Killed at the first checkpoint of the first, then, having gone on there, at the first of the second.
    resumed = Chained(tiny_model, tmp_path, "resumed", kills=(1, saved))
    assert (resumed.first.id, resumed.second.id) == (whole.first.id, whole.second.id)
    assert resumed.first.sha256 == whole.first.sha256
    assert resumed.second.sha256 == whole.second.sha256
    assert_plain_peft_opens(tiny_model, whole.folder(whole.second))


def assert_plain_peft_opens(base: Path, folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    stored = load_file(folder / ADAPTER_WEIGHTS)
    opened = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
    loaded = {n.replace(".default.", "."): p for n, p in opened.named_parameters() if "lora_" in n}
    assert loaded.keys() == stored.keys()
    assert all(bool((loaded[name] == stored[name]).all()) for name in stored)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_it_begins_with_the_weights_of_the_first_and_takes_them_as_the_reference(
    tiny_model: Path, tmp_path: Path, kind: str
) -> None:
    done = Chained(tiny_model, tmp_path, kind, learning_rate=1e-12, adapter=kind, dropout=0.0)
    first, second = (load_file(done.folder(a) / ADAPTER_WEIGHTS) for a in (done.first, done.second))
    assert first.keys() == second.keys()
    assert all(bool(first[name].any()) for name in first)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-9
    for log in done.second.history:  # compared with the base, the margins would not be zero
        assert log.train_loss == pytest.approx(math.log(2), rel=1e-5)
        assert log.metrics["train/reward_margin"] == pytest.approx(0, abs=1e-5)


def test_what_both_trainings_leave_open_is_chosen_once_for_plan_training_and_search(
    tiny_model: Path, tmp_path: Path
) -> None:
    workspace = Workspace.open(tmp_path / "auto", database_url=f"sqlite:///{tmp_path / 'auto'}.db")
    left_open = dict.fromkeys(("batch_size", "epochs", "learning_rate", "rank"), "auto")
    first = {**FIRST, "epochs": "auto", "learning_rate": "auto"}
    wanted = recipe(tiny_model, tmp_path, **left_open, start_from=first)
    planned = plan_recipe(RunContext(wanted, workspace, tmp_path, Silent()))
    context = RunContext(wanted, workspace, tmp_path, Silent())
    second = train_recipe(context).adapter
    earlier = workspace.adapters.get(second.start_adapter or "")
    rows = workspace.datasets.get(second.dataset_version).splits["train"]
    chosen = context.recipe.train
    assert chosen.start_from is not None
    assert (chosen.auto, chosen.start_from.auto) == ((), ())
    assert second.config["rank"] == earlier.config["rank"] == 16
    assert second.steps == chosen.total_steps(rows)
    assert earlier.config["batch_size"] == 6
    assert 0.1 <= second.config["learning_rate"] / earlier.config["learning_rate"] <= 0.67  # of batches of 6
    assert planned.epochs == chosen.epochs
    # Written as numbers, the same settings are the same adapters.
    written = wanted.model_copy(update={"train": chosen})
    assert train_recipe(RunContext(written, workspace, tmp_path, Silent())).adapter.id == second.id
    alone = recipe(tiny_model, tmp_path, **left_open, start_from=None)
    assert tune_recipe(RunContext(alone, workspace, tmp_path, Silent()), (), minutes=1, trials=1).trials


def test_plan_and_report_show_both(tiny_model: Path, workspace: Workspace, tmp_path: Path) -> None:
    wanted = recipe(tiny_model, tmp_path, learning_rate=0.01)
    assert stored_recipe(wanted.model_dump(mode="json"), where="stored") == wanted
    alone = recipe(tiny_model, tmp_path, learning_rate=0.01, start_from=None)
    both, second = (plan_recipe(RunContext(r, workspace, tmp_path, Silent())) for r in (wanted, alone))
    assert both.estimates[0].what == "before it: supervised fine-tuning"
    assert [e.what for e in both.estimates[1:]] == [e.what for e in second.estimates]
    assert both.training_s > both.estimates[0].value > 0
    assert both.disk_bytes > second.disk_bytes
    run = run_recipe(RunContext(wanted, workspace, tmp_path, Silent()))
    assert run.status in ("succeeded", "refused"), run.error
    adapter = workspace.adapters.get(run.adapter_id or "")
    page = Path(run.report or "").read_text(encoding="utf-8")
    start, tuned = (workspace.evaluations.get(run.evaluations[name]) for name in ("start", "tuned"))
    assert (start.adapter, tuned.adapter) == (adapter.start_adapter, adapter.id)
    before, after = (found.metrics["preference_accuracy"] for found in (start, tuned))
    assert (before.n, after.n, after.value) == (6, 6, 1.0)
    assert after.ci95[0] < 1.0
    assert "What training started from" in page
    assert "preference accuracy" in page
    assert f"began with {adapter.start_adapter} (supervised fine-tuning)" in page
    assert re.search(r"Training time</\w+>\s*<\w+>[^<]+ \(planned [^<]+\)<", page)


def test_both_train_one_adapter_so_another_shape_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"start_from.rank is 8 and rank 4: both train one adapter"):
        recipe(tiny_model, tmp_path, start_from={**FIRST, "rank": 8})
    with pytest.raises(ConfigError, match=r"train.start_from.method: no training method named 'sftt'"):
        recipe(tiny_model, tmp_path, start_from={"method": "sftt"})


def test_a_search_for_settings_refuses_what_it_would_try_without_the_training_before(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    wanted = RunContext(recipe(tiny_model, tmp_path), workspace, tmp_path, Silent())
    with pytest.raises(ConfigError, match=r"train.start_from puts another before it"):
        tune_recipe(wanted, ["learning_rate=1e-4,1e-3"], minutes=1, trials=1)
