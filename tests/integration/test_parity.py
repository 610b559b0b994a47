"""The artifact that ships: what is exported and what training computed, beside what the gate judged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.integration.test_whole_models import made, recipe
from tunery.core.engine import GenerationRequest, Sampling
from tunery.core.errors import ConfigError, GateFailed, NotFoundError
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.parity import parity_of_folder, parity_of_trainer
from tunery.registry.export import export
from tunery.registry.versions import resolve
from tunery.serve.engines import engine_settings, open_engine
from tunery.store.workspace import Workspace


def test_merged_weights_and_the_trainers_form_answer_as_the_gate_judged(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    ref = made(tiny_model, tmp_path, workspace, "adapter")
    folder = export(workspace, ref, tmp_path / "out", form="merged")
    merged = parity_of_folder(workspace, ref, folder, progress=Silent())
    assert merged.comparison.n == 6
    assert (merged.comparison.fixed, merged.comparison.broken) == (0, 0)
    merged.require()
    trainer = parity_of_trainer(workspace, ref, progress=Silent())
    assert (trainer.comparison.fixed, trainer.comparison.broken) == (0, 0)
    trainer.require()


def test_an_export_that_answers_worse_is_refused_and_leaves_nothing(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    ref = made(tiny_model, tmp_path, workspace, "adapter")
    evaluation = workspace.evaluations.get(resolve(workspace, ref).evaluation_id)
    path = workspace.artifacts.path("evaluations", evaluation.id) / "predictions.jsonl"
    assert path.is_file()

    def spoilt(partial: Path) -> None:
        weights = load_file(partial / "model.safetensors")
        name = next(n for n in weights if n.endswith("norm.weight"))
        save_file(weights | {name: torch.zeros_like(weights[name])}, partial / "model.safetensors")
        parity = parity_of_folder(workspace, ref, partial, progress=Silent(), margin=0.0)
        assert parity.comparison.fixed == 0
        if evaluation.main.value > 0:
            assert not parity.holds
        parity._replace(comparison=parity.comparison.with_(difference=-0.5)).require()

    with pytest.raises(GateFailed, match="may lose 0 points at most"):
        export(workspace, ref, tmp_path / "out", form="merged", check=spoilt)
    assert not list(tmp_path.glob("out*"))


def test_a_gate_may_hold_the_served_model_to_what_training_computed(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    plain = recipe(tiny_model, tmp_path, adapter="lora", rank=4, learning_rate=1e-2)
    values = plain.model_dump(mode="json")
    values["gate"]["rules"].append("no worse than trainer within 0.9")
    values["gate"]["rules"] += ["latency_p95_ms <= 60000", "cost_per_1k <= 5"]
    values["evaluate"]["price_per_hour"] = 0.5
    run = run_recipe(RunContext(type(plain).model_validate(values), workspace, tmp_path, Silent()))
    assert "trainer" in run.evaluations
    gate = workspace.gates.get(run.gate_id or "")
    assert "level with tuned, as training computed it" in gate.rules[1].sentence
    assert gate.rules[1].written == "exact_match no worse than trainer within 0.9"
    latency, cost = gate.rules[2:4]
    assert latency.passed
    assert "at most 60000 ms required" in latency.sentence
    assert cost.passed
    assert "cost of 1,000 requests in US dollars is 0." in cost.sentence


def test_a_rule_on_cost_needs_a_price(tiny_model: Path, workspace: Workspace, tmp_path: Path) -> None:
    values = recipe(tiny_model, tmp_path, adapter="lora", rank=4).model_dump(mode="json")
    values["gate"]["rules"] = ["cost_per_1k <= 5"]
    with pytest.raises(ConfigError, match="what an hour of the hardware costs"):
        run_recipe(RunContext(parse_recipe(values, where="recipe"), workspace, tmp_path, Silent()))


def test_the_plain_engine_computes_what_ours_does_and_refuses_the_rest(tiny_model: Path) -> None:
    plain = open_engine(tiny_model, engine_settings({"kind": "transformers", "device": "cpu"}))
    ours = open_engine(tiny_model, engine_settings({"device": "cpu", "threads": 1}))
    try:
        rows = [((5, 6, 7), (8, 9)), ((9, 8), (7,))]
        for a, b in zip(plain.score(rows), ours.score(rows), strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        request = GenerationRequest((5, 6, 7), sampling=Sampling(max_tokens=8))
        assert plain.submit(request).result().token_ids == ours.submit(request).result().token_ids
        with pytest.raises(ConfigError, match="greedily"):
            plain.generate([GenerationRequest((5,), sampling=Sampling(temperature=1.0))])
        with pytest.raises(NotFoundError, match="nobody"):
            plain.score(rows, "nobody")
        assert plain.healthy()
        assert plain.adapters() == ()
    finally:
        plain.close()
        ours.close()
