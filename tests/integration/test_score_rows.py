"""Quality scores on the engine that serves, with a tiny model: they are what the plain libraries compute."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.evaluate.scripted import example
from tunery.core.example import Example, Message
from tunery.core.progress import Silent
from tunery.data.select.scores import quality_scores
from tunery.model.render import render
from tunery.model.tokenizer import load_tokenizer
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import parse_recipe
from tunery.pipeline.stages.data import split_of
from tunery.pipeline.stages.score import score_recipe, score_rows
from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings
from tunery.store.workspace import Workspace

SYSTEM = "Name the intent of the customer's message."
ROWS = [
    example("when will my card arrive", "card arrival", system=SYSTEM),
    example("my top up did not work", "top up failed", system=SYSTEM),
    example("how many euros do I get", "card arrival", system=SYSTEM),
    example("is this the same answer", "a longer answer of some more words", system=None),
]


@pytest.fixture
def engine(tiny_model: Path) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(tiny_model, settings=EmbeddedSettings(device="cpu", max_cache_tokens=4096))
    yield engine
    engine.close()


def loss(model: torch.nn.Module, tokenizer: object, messages: list[Message]) -> float:
    """Mean loss over the last turn, as training computes it."""
    (rendered,) = render(tokenizer, messages)  # type: ignore[arg-type]
    labels = [i if m else -100 for i, m in zip(rendered.ids, rendered.mask, strict=True)]
    with torch.no_grad():
        result = model(input_ids=torch.tensor([rendered.ids]), labels=torch.tensor([labels]))
    return float(result.loss)


def emptied(row: Example) -> list[Message]:
    return [*(Message(role=m.role, content="") for m in row.prompt), row.messages[-1]]


def test_perplexity_and_difficulty_are_those_of_the_training_loss(
    engine: EmbeddedEngine, tiny_model: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    scored = score_rows(engine, tokenizer, ROWS, rows_per_batch=3, progress=Silent())
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    assert [row.id for row in scored] == [row.id for row in ROWS]
    for row, got in zip(ROWS, scored, strict=True):
        given, alone = loss(model, tokenizer, list(row.messages)), loss(model, tokenizer, emptied(row))
        assert got.loss == pytest.approx(given, rel=1e-4)
        assert got.perplexity == pytest.approx(math.exp(given), rel=1e-4)
        assert got.ifd == pytest.approx(given / alone, rel=1e-4)


def test_scores_do_not_depend_on_the_batch(engine: EmbeddedEngine, tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    alone = score_rows(engine, tokenizer, ROWS, rows_per_batch=1, progress=Silent())
    together = score_rows(engine, tokenizer, ROWS[::-1], rows_per_batch=64, progress=Silent())[::-1]
    assert [r.ifd for r in alone] == pytest.approx([r.ifd for r in together], rel=1e-5)


def test_a_prompt_that_gives_the_answer_away_is_easy(tiny_model: Path, engine: EmbeddedEngine) -> None:
    """With an empty prompt nothing is given away: both likelihoods are of the same tokens, so IFD is 1."""
    rows = [example("", "card arrival", system=None)]
    (scored,) = score_rows(engine, load_tokenizer(tiny_model), rows, rows_per_batch=8, progress=Silent())
    assert scored.ifd == 1.0


def test_scores_of_a_recipe_are_kept_under_dataset_and_base(
    workspace: Workspace, tiny_model: Path, tmp_path: Path
) -> None:
    rows = [
        f"question {i} about my {'card' if i % 2 else 'rate'},{'card' if i % 2 else 'rate'}"
        for i in range(30)
    ]
    (tmp_path / "rows.csv").write_text("text,category\n" + "\n".join(rows) + "\n")
    recipe = parse_recipe(
        {
            "name": "tiny",
            "goal": {"metric": "exact_match", "target": 0.5},
            "base": str(tiny_model),
            "data": {
                "sources": [{"path": "rows.csv", "columns": {"input": "text", "output": "category"}}],
                "split": {"test": 5, "validation": 5},
            },
            "train": {"device": "cpu", "threads": 1},
        },
        where="here",
    )
    context = RunContext(recipe, workspace, tmp_path, Silent())
    try:
        first = score_recipe(context)
    finally:
        context.release_engine()
    (stored,) = workspace.datasets.list()
    ids = [e.id for e in split_of(context, stored, "train")]
    assert [row.id for row in first.rows] == ids
    assert all(math.isfinite(m) for m in quality_scores(first.rows, ids))
    assert first.id.startswith("quality-")
    assert not workspace.artifacts.damage("quality", first.id)

    again = score_recipe(RunContext(recipe, workspace, tmp_path, Silent()))
    assert (again.id, list(again.rows)) == (first.id, list(first.rows))


def test_a_request_to_stop_keeps_nothing(engine: EmbeddedEngine, tiny_model: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_rows(
            engine, load_tokenizer(tiny_model), ROWS, rows_per_batch=1, progress=Silent(), before_batch=stop
        )
