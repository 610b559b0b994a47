"""A plan counts the tokens that training computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.core.progress import Silent
from tunery.model.render import Rendered
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.plan import _way_to_fit, computed
from tunery.store.workspace import Workspace
from tunery.train.methods.method import TrainingRow
from tunery.train.methods.sft import SftConfig
from tunery.train.trainer import collate

TASKS = [tuple(range(begin, begin + 30)) for begin in (10, 110)]


def row(task: int, own: int) -> TrainingRow:
    ids = (*TASKS[task], *range(300 + own, 306 + own))
    return TrainingRow((Rendered(ids, (0,) * 34 + (1,) * 2, 34),))


def test_what_is_planned_is_what_the_collator_lays_out() -> None:
    rows = [row(task, own) for own in range(8) for task in range(2)]
    found = computed(rows, rows[:3], SftConfig(batch_size=16))
    laid_out = collate(rows)["packed"].input_ids.shape[1]
    assert found["computed_tokens"] == found["forward_tokens"] == laid_out == 2 * 30 + 16 * 6
    assert found["forward_rows"] == 16
    assert found["validation_computed_tokens"] == 2 * 30 + 3 * 6


def test_forwards_of_fewer_rows_or_tokens_save_less() -> None:
    rows = [row(task, own) for own in range(8) for task in range(2)]
    by_tokens = computed(rows, [], SftConfig(batch_size=16, micro_batch_tokens=80))
    assert by_tokens["computed_tokens"] == 2 * (30 + 8 * 6)
    assert by_tokens["forward_tokens"] == 30 + 8 * 6
    alone = computed(rows, [], SftConfig(batch_size=16, micro_batch_size=1))
    assert alone["computed_tokens"] == 16 * 36


def test_answers_of_other_rows_are_counted_as_the_collator_lays_them_out() -> None:
    rows = [row(0, own)._replace(beside=row(0, own + 1).sequences) for own in range(8)]
    found = computed(rows, rows, SftConfig(batch_size=8))
    laid_out = collate(rows)["beside"].input_ids.shape[1]
    assert found["measured_tokens"] == laid_out == 30 + 8 * 6
    assert found["validation_computed_tokens"] == 2 * laid_out
    assert computed([row(0, 1)], [], SftConfig(batch_size=8))["measured_tokens"] == 0


def test_many_steps_are_counted_by_some() -> None:
    rows = [row(0, own % 50) for own in range(3000)]
    found = computed(rows, [], SftConfig(batch_size=2, micro_batch_tokens=8192))
    assert found["computed_tokens"] == pytest.approx(1500 * (30 + 2 * 6), rel=0.02)


def test_what_does_not_fit_is_told_with_what_would(tiny_model: Path, workspace: Workspace) -> None:
    from tests.unit.plan.test_forecast import MACHINE, ROWS, SHAPE, TUNED

    values = {
        "name": "r",
        "goal": {"metric": "exact_match", "target": 0.5},
        "base": str(tiny_model),
        "data": {"sources": [{"path": "rows.jsonl"}]},
    }
    context = RunContext(parse_recipe(values, where="recipe"), workspace, tiny_model, Silent())

    def way(free: int, **settings: Any) -> str | None:
        machine = MACHINE.with_(free_memory_bytes=free * 2**20)
        return _way_to_fit(context, SftConfig(**settings), ROWS, (TUNED,), SHAPE, machine)

    assert (way(16_000, adapter="none") or "").startswith("with train.gradient_checkpointing=true it would")
    assert (way(2_000, adapter="none") or "").startswith("with train.adapter=lora it would take about ")
    assert way(300, adapter="none") is None
