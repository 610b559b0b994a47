"""One more training method costs one file: no other names it, and it is planned, checked, trained and told.

The throw-away file learns preferences against the base without its adapter. To have it for good, this file in
``src/tunery/train/methods`` and a test is all that it would need: recipes, the reference of settings,
preflight, the forecast, training, fine-tuning jobs and reports ask whichever methods they find there. The
test fails when a second file must know of one.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.pairs import PAIRS, pair_recipe
from tests.plugins import add_plugin
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.pipeline.context import RunContext
from tunery.pipeline.jobs.files import store_training_file
from tunery.pipeline.jobs.openai_job import JobBody, job_object, new_job
from tunery.pipeline.loop import run_recipe, train_recipe
from tunery.pipeline.recipe import Recipe, stored_recipe
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.plan import plan_recipe
from tunery.pipeline.stages.preflight import check_before_training
from tunery.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
PAIRWISE = '''
"""Pairwise learning: the preferred answer becomes likelier than the rejected one."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tunery.model.render import render
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod, TrainingRow


class PairwiseConfig(TrainConfig):
    """How the adapter learns preferences."""

    method: Literal["pairwise"] = "pairwise"
    """Pairwise learning."""
    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    """Peak learning rate."""
    beta: float = Field(default=0.1, gt=0)
    """How far the model may move from the base for a preference."""


@dataclass(frozen=True)
class Pairwise:
    config: PairwiseConfig
    weights = (1.0,)
    metrics = ()

    def rows(self, tokenizer, examples, *, split):
        return [
            TrainingRow(tuple(self._rendered(tokenizer, e, text) for text in (e.reference, e.rejected)))
            for e in examples
        ]

    def _rendered(self, tokenizer, example, text):
        answer = example.messages[-1].with_(content=text)
        return render(tokenizer, (*example.prompt, answer), loss_on="last_completion")[-1]

    def counts(self, batch):
        pairs = int(batch.row.max() + 1) // 2
        return (batch.row.new_ones(pairs),)

    def losses(self, model, batch):
        import torch
        import torch.nn.functional as F

        with torch.no_grad(), model.disable_adapter():
            of_base = self._log_probabilities(model, batch)
        gained = (self._log_probabilities(model, batch) - of_base).view(-1, 2)  # (pairs, preferred/rejected)
        return (-F.logsigmoid(self.config.beta * (gained[:, 0] - gained[:, 1])),)

    def _log_probabilities(self, model, batch):
        import torch.nn.functional as F

        from tunery.model.packing import target_logits

        each = -F.cross_entropy(target_logits(model, batch).float(), batch.targets, reduction="none")
        return each.new_zeros(int(batch.row.max()) + 1).index_add(0, batch.row, each)


METHOD = TrainingMethod(
    name="pairwise",
    title="pairwise learning",
    takes="preference pairs",
    loss="preference pairs",
    openai_type="pairwise",
    config=PairwiseConfig,
    objective=Pairwise,
)
'''
ANSWERS = [{"messages": [*p["input"]["messages"], *p["preferred_output"]]} for p in PAIRS]


@pytest.fixture(autouse=True)
def pairwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_plugin(monkeypatch, tmp_path / "methods", "tunery.train.methods", name="pairwise", source=PAIRWISE)


def recipe(base: Path, folder: Path, **train: Any) -> Recipe:
    return pair_recipe(base, folder, **{"method": "pairwise", **train})


def test_its_settings_are_validated_and_those_of_other_methods_are_not_taken(
    tiny_model: Path, tmp_path: Path
) -> None:
    good = recipe(tiny_model, tmp_path, beta=0.3)
    assert good.train.model_dump()["beta"] == 0.3
    assert good.train.learning_rate == 5e-4
    assert stored_recipe(good.model_dump(mode="json"), where="stored") == good
    for wrong, says in (
        ({"betta": 0.3}, "train.betta: unknown setting; did you mean 'beta'?"),
        ({"beta": -1}, "train.beta: Input should be greater than 0"),
        ({"loss_on": "all"}, "train.loss_on: unknown setting"),
        (
            {"method": "pairwisee"},
            "train.method: no training method named 'pairwisee'; did you mean 'pairwise'?",
        ),
    ):
        with pytest.raises(ConfigError) as refused:
            recipe(tiny_model, tmp_path, **wrong)
        assert says in refused.value.message


def test_it_is_planned_checked_trained_evaluated_and_reported(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    wanted = recipe(tiny_model, tmp_path, beta=0.3, learning_rate=0.01)
    context = RunContext(wanted, workspace, tmp_path, Silent())
    dataset = make_dataset(context)
    forecast = plan_recipe(context)

    shown = check_before_training(context, dataset, samples=24)
    assert shown.passed, [c.sentence for c in shown.checks if not c.passed]
    first, second = shown.samples[:2]
    assert first.example_id == second.example_id
    for row, says in ((first, "yes, the "), (second, "no ")):
        assert "".join(t.text for t in row.tokens if t.trained).startswith(says)
    rows = forecast.rows
    assert rows.train_tokens + rows.validation_tokens == shown.tokens
    assert rows.supervised_tokens + rows.validation_supervised_tokens == shown.trained_tokens

    run = run_recipe(RunContext(wanted, workspace, tmp_path, Silent()))
    assert run.status in ("succeeded", "refused"), run.error
    adapter = workspace.adapters.get(run.adapter_id or "")
    assert (adapter.config["method"], adapter.config["beta"]) == ("pairwise", 0.3)
    assert adapter.steps == forecast.steps
    assert adapter.trained_tokens == 3 * rows.train_tokens
    losses = [log.train_loss for log in adapter.history if log.train_loss is not None]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-5)  # the adapter begins as no change at all
    assert losses[-1] < 0.5
    assert min(log.validation_loss for log in adapter.history if log.validation_loss is not None) < 0.5
    assert "tuned" in run.evaluations
    page = Path(run.report or "").read_text(encoding="utf-8")
    assert "pairwise learning; losses are means over preference pairs" in page


def test_accumulated_micro_batches_equal_one_big_batch(tiny_model: Path, tmp_path: Path) -> None:
    losses = []
    for home, size in (("whole", 6), ("parts", 2)):
        opened = Workspace.open(tmp_path / home, database_url=f"sqlite:///{tmp_path / home}.db")
        wanted = recipe(tiny_model, tmp_path, learning_rate=0.01, micro_batch_size=size)
        done = train_recipe(RunContext(wanted, opened, tmp_path, Silent()))
        losses.append([log.train_loss for log in done.adapter.history])
        opened.close()
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_answers_without_a_rejected_one_are_refused_before_training(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    wanted = recipe(tiny_model, tmp_path)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ANSWERS), encoding="utf-8")
    context = RunContext(wanted, workspace, tmp_path, Silent())
    with pytest.raises(ConfigError, match="24 of 24 rows have no rejected answer"):
        check_before_training(context, make_dataset(context))


def test_a_fine_tuning_job_may_ask_for_it(workspace: Workspace) -> None:
    def job(rows: list[Mapping[str, Any]], method: Mapping[str, Any]) -> Any:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        file = store_training_file(workspace, "rows.jsonl", lambda path: path.write_text(text) and None)
        body = JobBody.model_validate({"model": "tiny", "training_file": file.id, "method": method})
        info = BaseModelInfo(name="tiny", sha256="0" * 64, path="/models/tiny", parameters=1)
        return new_job(body, workspace, info, base_spec="tiny", submitted_by="key")

    numbers = {"beta": 0.4, "n_epochs": 2, "learning_rate_multiplier": 0.5, "batch_size": "auto"}
    made = job(PAIRS, {"type": "pairwise", "pairwise": {"hyperparameters": numbers}})
    train = stored_recipe(made.recipe, where="job").train
    assert train.model_dump()["beta"] == 0.4
    assert (train.method, train.epochs, train.learning_rate) == ("pairwise", 2, 2.5e-4)
    told = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5, "beta": 0.4}
    assert job_object(made)["method"] == {"type": "pairwise", "pairwise": {"hyperparameters": told}}
    with pytest.raises(ConfigError, match="holds chat or completion rows, and pairwise learning"):
        job(
            [{"messages": [*p["input"]["messages"], *p["preferred_output"]]} for p in PAIRS],
            {"type": "pairwise"},
        )
    with pytest.raises(
        ValueError,
        match="only dpo or kto or orpo or pairwise or simpo or supervised training exists here, not 'reinf",
    ):
        job(PAIRS, {"type": "reinforcement"})


def test_the_reference_of_settings_has_its_table() -> None:
    page = reference().settings_page()
    own = page.partition("### `train` with `method: pairwise`")[2].partition("\n### ")[0]
    assert "| `beta` | number > 0 | `0.1` | How far the model may move" in own
    assert "loss_on" not in own
    assert "loss_on" in page.partition("### `train` with `method: sft`")[2].partition("\n### ")[0]


def reference() -> ModuleType:
    """The script that writes the reference, as a module."""
    found = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
