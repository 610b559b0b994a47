"""Published benchmarks in a run's gate, and of a registered version on demand."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_whole_models import recipe
from tunery.benchmarks.config import BenchmarkConfig
from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.stages.benchmark import benchmark_model
from tunery.store.workspace import Workspace


def test_a_benchmark_is_a_suite_of_the_gate_and_found_again(
    tiny_model: Path, workspace: Workspace, tmp_path: Path
) -> None:
    values = recipe(tiny_model, tmp_path, adapter="lora", rank=4, learning_rate=1e-2).model_dump(mode="json")
    values["evaluate"]["benchmarks"] = {"endings": {"task": "hellaswag_sample", "limit": 8}}
    values["gate"]["rules"].append("no_worse endings within 0.99")
    asked = recipe(tiny_model, tmp_path, adapter="lora", rank=4, learning_rate=1e-2)
    context = RunContext(type(asked).model_validate(values), workspace, tmp_path, Silent())
    run = run_recipe(context)
    gate = workspace.gates.get(run.gate_id or "")
    rule = next(r for r in gate.rules if r.rule.get("on") == "endings")
    assert rule.rule["metric"] == "accuracy.normalised"
    assert "on endings is" in rule.sentence
    assert "(n = 8)" in rule.sentence
    wanted = [BenchmarkConfig(task="hellaswag_sample", limit=8)]
    ref = f"{context.recipe.name}@1"
    first, again = (benchmark_model(context, ref, wanted)[0] for _ in range(2))
    context.release_engine()
    assert first.result.evaluation == again.result.evaluation
    assert first.beside is not None
    assert first.beside.comparisons[0].n == 8
    assert {p.id for p in first.result.predictions} == {p.id for p in again.result.predictions}
    assert workspace.evaluations.find(first.result.evaluation.id) is not None
