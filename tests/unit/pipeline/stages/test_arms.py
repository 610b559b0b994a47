"""Arms within a run: measured on the test split once, found again, and named by the gate."""

from __future__ import annotations

from pathlib import Path

from tunery.core.progress import Silent
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.stages.arms import arms_of, measure_arm
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.evaluate import test_task as task_of
from tunery.pipeline.stages.settle import settle
from tunery.store.workspace import Workspace

RECIPE = """\
name: arms
goal: {{metric: exact_match}}
base: {base}
data:
  sources: [{{path: rows.csv, columns: {{input: text, output: label}}}}]
  split: {{test: 6, validation: 0}}
evaluate: {{suites_off: not tested here, arms: {{agents: {{answers: agents.csv}}}}}}
gate: {{rules: ["gain over best_arm >= 0.02 (shown)", "no worse than agents within 0.1"]}}
"""


def test_arms_are_measured_once_and_the_gate_knows_them(
    tmp_path: Path, tiny_model: Path, workspace: Workspace
) -> None:
    words = ("amber", "basil", "candle", "dragon", "ember", "fossil", "garden", "harbour", "island", "jacket")
    rows = [
        f"please {what} my {word} {other},{what}"
        for what in ("block", "renew")
        for word, other in zip(words, words[3:] + words[:3], strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
    context = RunContext(load_recipe(path), workspace, tmp_path, Silent())
    dataset = make_dataset(context)
    task = task_of(context, dataset)
    given = [f"{e.id},{e.reference}" for e in task.examples[:4]]
    (tmp_path / "agents.csv").write_text("\n".join(["id,answer", *given]) + "\n", encoding="utf-8")

    arms = {arm.subject.name: arm for arm in arms_of(context, dataset, task)}
    assert set(arms) == {"tfidf", "agents"}
    classifier, agents = (measure_arm(context, arms[name]) for name in ("tfidf", "agents"))
    assert classifier.evaluation.main.n == len(task.examples) == 6
    assert (agents.evaluation.main.value, agents.evaluation.main.n) == (1.0, 4)
    again = measure_arm(context, arms["tfidf"])
    assert again == classifier
    assert [arm.subject.name for arm in settle(context, dataset).arms] == ["tfidf", "agents"]
