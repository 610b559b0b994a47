"""Kept checkpoints: their adapters stay, and each is measured on validation rows, never on the test split."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures_cli import Tunery, home, tunery
from tunery.core.training import kept_steps
from tunery.store.workspace import Workspace
from tunery.train.methods.sft import SftConfig

__all__ = ["home", "tunery"]

RECIPE = """\
name: steps
goal: {{metric: exact_match}}
base: {base}
data:
  sources: [{{path: rows.csv, columns: {{input: text, output: label}}}}]
  split: {{test: 4, validation: 6}}
  clean: {{near_duplicates: "off"}}
train:
  {{epochs: 4, batch_size: 4, rank: 4, learning_rate: 0.01, threads: 1, device: cpu, smoke: false,
    early_stopping: null, validation_every: 3, keep_checkpoints: {keep}}}
evaluate:
  {{suites_off: not tested, max_new_tokens: 4,
    baseline: {{few_shot: false, constrained: false, perplexity: false, tfidf: false}}}}
gate: {{rules: ["exact_match >= 0"]}}
"""
WORDS = (
    "amber",
    "basil",
    "candle",
    "dragon",
    "ember",
    "fossil",
    "garden",
    "harbour",
    "island",
    "jacket",
    "kite",
)


def recipe(folder: Path, base: Path, keep: object) -> Path:
    rows = [f"please {what} my {word},{what}" for what in ("block", "renew") for word in WORDS]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(base=base, keep=keep), encoding="utf-8")
    return path


def test_every_kept_checkpoint_is_measured_on_validation_rows(
    home: Path, tmp_path: Path, tiny_model: Path, tunery: Tunery
) -> None:
    path = recipe(tmp_path, tiny_model, "all")
    done = tunery("run", path, "--json")
    assert done.code == 0, done.err
    assert "kept checkpoints is shown" in done.err or "answers better than the model" in done.err
    report = tunery("evaluate", "report", done.json["run"], "--format", "json").json
    scores = report["run"]["checkpoints"]
    assert [one["step"] for one in scores] == [3, 6, 9, 12]  # 10 rows by four, four times
    assert sum(one["chosen"] for one in scores) == 1
    page = tunery("evaluate", "report", done.json["run"]).out
    assert "on validation rows, by step" in page

    workspace = Workspace.open(home)
    try:
        dataset = report["run"]["dataset_version"]
        for one in scores:
            evaluation = workspace.evaluations.get(one["evaluation"])
            assert evaluation.data == f"{dataset}/validation"
            assert evaluation.main.n == 6
        (chosen,) = [one for one in scores if one["chosen"]]
        # Its weights are the model's own, and so are its answers.
        assert (chosen["difference"], chosen["verdict"]) == (0, "no difference shown")
        folder = workspace.artifacts.path("adapters", report["run"]["adapter_id"])
        assert kept_steps(folder) == [3, 6, 9, 12]
        step = folder / "steps" / f"step-{chosen['step']}" / "adapter_model.safetensors"
        assert step.read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    finally:
        workspace.close()
    again = tunery("evaluate", "checkpoints", path, "--json")
    assert again.json == scores
    assert "the model" in tunery("evaluate", "checkpoints", path).out
    exported = tunery("registry", "export", "steps@1", tmp_path / "out")
    assert exported.code == 0, exported.err
    assert not (tmp_path / "out" / "steps").exists()


def test_the_newest_stay_where_a_number_is_set(
    home: Path, tmp_path: Path, tiny_model: Path, tunery: Tunery
) -> None:
    path = recipe(tmp_path, tiny_model, 2)
    trained = tunery("train", "run", path, "--json")
    assert trained.code == 0, trained.err
    scores = tunery("evaluate", "checkpoints", path, "--json").json
    assert [one["step"] for one in scores] == [9, 12]
    without = tunery("evaluate", "checkpoints", path, "train.keep_checkpoints=null")
    assert without.code == 3
    assert "is not trained" in without.err


@pytest.mark.parametrize(
    "settings", [{"merge": True}, {"adapter": "none"}, {"modules_to_save": ["lm_head"]}, {"sharding": "fsdp"}]
)
def test_checkpoints_that_are_no_adapters_are_not_kept(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="checkpoints of whole models are not kept"):
        SftConfig.model_validate({"keep_checkpoints": "all", **settings})


def test_as_many_stay_as_there_are_validations() -> None:
    assert SftConfig().kept_checkpoints(100) == 0
    assert SftConfig(keep_checkpoints="all").kept_checkpoints(100) == 8
    assert SftConfig(keep_checkpoints=3).kept_checkpoints(100) == 3
    assert SftConfig(keep_checkpoints=3, validation_every=90).kept_checkpoints(100) == 2
