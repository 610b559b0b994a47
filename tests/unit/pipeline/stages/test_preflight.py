"""What preflight shows is what training gets, whatever the settings."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.model.test_tokenizer import STRICT

from tunery.core.progress import Silent
from tunery.model.packing import Packed
from tunery.model.render import Rendered
from tunery.model.tokenizer import ChatTokenizer
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.plan import plan_recipe
from tunery.pipeline.stages.preflight import check_before_training
from tunery.pipeline.stages.train import train
from tunery.store.workspace import Workspace
from tunery.train import trainer
from tunery.train.methods.method import TrainingRow

SUBJECTS = ("cards", "rates", "fees", "limits", "loans", "taxes")
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SETTINGS = [
    (loss_on, weight)
    for loss_on, weight in itertools.product(("completion", "last_completion", "all"), (0.0, 0.3))
    if not (loss_on == "all" and weight)  # which is refused: prompts are trained already
]


def conversations(subject: str) -> list[dict[str, Any]]:
    """One row of each kind: one turn, several, one that is context only, a tool's result, a system turn."""
    ask = {"role": "user", "content": f"What of {subject}?"}
    first = {"role": "assistant", "content": f"{subject} are fine."}
    more = {"role": "user", "content": f"And other {subject}, then?"}
    last = {"role": "assistant", "content": f"Other {subject} as well."}
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": f"{subject}: 7"}
    return [
        {"messages": [ask, first]},
        {"messages": [ask, first, more, last]},
        {"messages": [more, {**first, "weight": 0}, ask, last]},
        {"messages": [ask, called, result, last], "tools": [TOOL]},
        {"messages": [{"role": "system", "content": f"Know {subject}."}, more, last]},
    ]


@pytest.fixture(params=["takes system turns", "refuses system turns"])
def base(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    if request.param == "takes system turns":
        return tiny_model
    folder = Path(shutil.copytree(tiny_model, tmp_path / "strict"))
    (folder / "chat_template.jinja").write_text(STRICT, encoding="utf-8")
    return folder


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sequence[TrainingRow], Packed]]:
    """Every micro-batch that the trainer's collator gets, with what it makes of it."""
    seen: list[tuple[Sequence[TrainingRow], Packed]] = []
    collate = trainer.collate

    def watched(rows: Sequence[TrainingRow]) -> dict[str, Any]:
        batch = collate(rows)
        seen.append((rows, batch["packed"]))
        return batch

    monkeypatch.setattr(trainer, "collate", watched)
    return seen


def marked(tokenizer: ChatTokenizer, row: Rendered) -> list[tuple[str, bool, bool]]:
    """Each token with whether it counts in the loss, and whether in that of prompts."""
    prompt_mask = row.prompt_mask or (0,) * len(row.ids)
    return [
        (tokenizer.token_text(i), bool(m or p), bool(p))
        for i, m, p in zip(row.ids, row.mask, prompt_mask, strict=True)
    ]


@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
@pytest.mark.parametrize(("loss_on", "weight"), SETTINGS)
def test_preflight_shows_the_tokens_and_the_mask_that_the_collator_gets(
    base: Path,
    workspace: Workspace,
    tmp_path: Path,
    packed: list[tuple[Sequence[TrainingRow], Packed]],
    loss_on: str,
    weight: float,
    system_prompt: str | None,
) -> None:
    rows = [row for subject in SUBJECTS for row in conversations(subject)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {
        "name": "talk",
        "goal": {"metric": "exact_match"},
        "evaluate": {"suites_off": "not tested here"},
        "base": str(base),
        "data": {
            "sources": [{"path": "rows.jsonl"}],
            "system_prompt": system_prompt,
            "split": {"test": 5, "validation": 5},
            "clean": {"near_duplicates": False},
        },
        "train": {
            "rank": 2,
            "epochs": 1,
            "batch_size": 5,
            "device": "cpu",
            "threads": 1,
            "validation_every": 1000,
            "loss_on": loss_on,
            "prompt_loss_weight": weight,
        },
    }
    context = RunContext(parse_recipe(values, where="test"), workspace, tmp_path, Silent())
    dataset = make_dataset(context)
    shown = check_before_training(context, dataset, samples=len(rows))
    assert shown.passed, [c.sentence for c in shown.checks if not c.passed]
    adapter = train(context, dataset)

    trained = [sequence for batch, _ in packed for row in batch for sequence in row.sequences]
    tokens = sorted(marked(context.tokenizer, sequence) for sequence in trained)
    assert sorted([(t.text, t.trained, t.prompt_loss) for t in r.tokens] for r in shown.samples) == tokens
    assert shown.rows == len(trained) == dataset.splits["train"] + dataset.splits["validation"]
    assert shown.tokens == sum(batch.logical_tokens for _, batch in packed)
    assert shown.trained_tokens == sum(len(batch.targets) for _, batch in packed)
    assert any(t.prompt_loss for row in shown.samples for t in row.tokens) == bool(weight)

    planned = plan_recipe(context).rows
    assert planned.train_tokens == adapter.trained_tokens
    assert planned.train_tokens + planned.validation_tokens == shown.tokens
    assert planned.supervised_tokens + planned.validation_supervised_tokens == shown.trained_tokens
