"""Which recipes are one run: those with one verdict, which the order of a schema may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.core.dataset import DatasetVersion
from tunery.core.progress import Silent
from tunery.core.run import Run
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import _begin, _run_id
from tunery.pipeline.recipe import load_recipe
from tunery.pipeline.stages.data import make_dataset
from tunery.store.workspace import Workspace

RECIPE = """\
name: order
goal: {{metric: valid_json}}
base: {base}
data:
  sources: [{{path: rows.csv, columns: {{input: text, output: answer}}, output_json: true}}]
  split: {{test: 4, validation: 0}}
evaluate: {{json_schema: {{type: object, properties: {{{properties}}}}}}}
"""
ZETA, ALPHA = "zeta: {type: integer}, alpha: {type: integer}", "alpha: {type: integer}, zeta: {type: integer}"


@pytest.fixture
def asked(tmp_path: Path, tiny_model: Path, workspace: Workspace):  # type: ignore[no-untyped-def]
    rows = [f'question {i},"{{""zeta"": {i}, ""alpha"": {i * 7}}}"' for i in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,answer", *rows]) + "\n", encoding="utf-8")

    def ask(properties: str) -> tuple[RunContext, DatasetVersion]:
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.format(base=tiny_model, properties=properties), encoding="utf-8")
        context = RunContext(load_recipe(path), workspace, tmp_path, Silent())
        return context, make_dataset(context)

    return ask


def test_recipes_whose_schemas_differ_in_order_are_two_runs(asked) -> None:  # type: ignore[no-untyped-def]
    first, second = asked(ZETA), asked(ALPHA)
    assert first[1].id == second[1].id
    assert _begin(*first).id != _begin(*second).id
    assert _begin(*first).id == _begin(*asked(ZETA)).id


def test_a_run_of_before_ids_told_the_order_is_still_known(asked) -> None:  # type: ignore[no-untyped-def]
    context, dataset = asked(ZETA)
    old = Run(
        id=_run_id(context, dataset, ordered=False),
        name="order",
        recipe=context.recipe.model_dump(mode="json"),
        status="refused",
        created_at=context.workspace.clock.now(),
        dataset_version=dataset.id,
    )
    context.workspace.runs.add(old)
    assert _begin(context, dataset) == old
    assert _begin(*asked(ALPHA)).id != old.id, (
        "the old id does not tell which order it was of, its recipe does"
    )
