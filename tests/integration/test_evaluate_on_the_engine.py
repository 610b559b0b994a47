"""Evaluation on the engine that serves, with a tiny model: its numbers are those of the plain libraries."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.unit.evaluate.scripted import example
from tunery.evaluate.config import BaselineConfig, EvaluateConfig
from tunery.evaluate.prompting import Subject, baseline_subjects
from tunery.evaluate.run import evaluate
from tunery.evaluate.task import make_task
from tunery.model.render import render
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings

LABELS = ("card arrival", "exchange rate", "top up failed")
SYSTEM = "Name the intent of the customer's message."
TEST = [
    example(f"my question number {i}", LABELS[i % 3], label=LABELS[i % 3], system=SYSTEM) for i in range(9)
]
TRAIN = [example(f"other words {i}", LABELS[i % 3], label=LABELS[i % 3], system=SYSTEM) for i in range(6)]


@pytest.fixture
def engine(tiny_model: Path, tiny_adapters: dict[str, Path]) -> Iterator[EmbeddedEngine]:
    engine = EmbeddedEngine(tiny_model, settings=EmbeddedSettings(device="cpu", max_cache_tokens=4096))
    engine.load_adapter("adapter-a", str(tiny_adapters["a"]))
    yield engine
    engine.close()


def loss_of(model: torch.nn.Module, tokenizer: object) -> float:
    """Mean over trained tokens of all test rows, as training computes it."""
    total, count = 0.0, 0
    for row in TEST:
        (rendered,) = render(tokenizer, row.messages)  # type: ignore[arg-type]
        ids = torch.tensor([rendered.ids])
        labels = torch.tensor([[i if m else -100 for i, m in zip(rendered.ids, rendered.mask, strict=True)]])
        with torch.no_grad():
            trained = sum(rendered.mask)
            total += float(model(input_ids=ids, labels=labels).loss) * trained
            count += trained
    return total / count


@pytest.mark.parametrize("adapter", [None, "adapter-a"])
def test_perplexity_is_exp_of_the_loss_that_training_reports(
    engine: EmbeddedEngine, tiny_model: Path, tiny_adapters: dict[str, Path], adapter: str | None
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    task = make_task(
        TEST, data="t", config=EvaluateConfig(max_new_tokens=4), main_metric="exact_match", labels=LABELS
    )
    result = evaluate(engine, tokenizer, task, subject=Subject("tuned", "tiny", adapter))
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    if adapter:
        model = PeftModel.from_pretrained(model, str(tiny_adapters["a"])).eval()
    expected = math.exp(loss_of(model, tokenizer))
    assert result.evaluation.metrics["perplexity"].value == pytest.approx(expected, rel=1e-4)


def test_constrained_baselines_of_a_model_that_knows_nothing_still_name_labels(
    engine: EmbeddedEngine, tiny_model: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    config = EvaluateConfig(max_new_tokens=24, baseline=BaselineConfig(shots=3, perplexity=False))
    task = make_task(TEST, data="t", config=config, main_metric="accuracy", labels=LABELS)
    subjects = baseline_subjects(task, TRAIN, base="tiny", tokenizer=tokenizer)
    answers = {
        s.name: {p.prediction for p in evaluate(engine, tokenizer, task, subject=s).predictions}
        for s in subjects
    }
    plain = ("zero_shot", "few_shot", "few_shot_retrieved")
    assert set(answers) == {*plain, *(f"{name}_constrained" for name in plain)}
    for name, given in answers.items():
        assert given
        assert given.issubset(LABELS) is name.endswith("_constrained")
