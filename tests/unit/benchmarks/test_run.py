"""A benchmark is an evaluation of our own: the harness's figures, our intervals, items that pair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from tunery.benchmarks import run as benchmark
from tunery.benchmarks.config import BenchmarkConfig
from tunery.benchmarks.run import prepare, run_benchmark
from tunery.core.engine import Engine
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.statistics import wilson_interval
from tunery.evaluate.comparison import compare_results
from tunery.evaluate.prompting import Subject
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines.embedded.engine import EmbeddedEngine
from tunery.serve.engines.embedded.settings import EmbeddedSettings

BASE = Subject("base", "tiny@sha256:0")


@pytest.fixture(scope="module")
def engine(tiny_model: Path, tiny_adapters: dict[str, Path]) -> Iterator[Engine]:
    engine = EmbeddedEngine(tiny_model, settings=EmbeddedSettings(device="cpu", threads=1))
    engine.load_adapter("a", str(tiny_adapters["a"]))
    yield engine
    engine.close()


def test_accuracies_are_those_of_the_harness_own_backend(engine: Engine, tiny_model: Path) -> None:
    prepared = prepare(BenchmarkConfig(task="hellaswag_sample", limit=25))
    result = run_benchmark(engine, load_tokenizer(tiny_model), prepared, subject=BASE)
    assert prepared.local is not None
    expected = simple_evaluate(
        model=HFLM(str(tiny_model), device="cpu", dtype="float32", batch_size=8),
        tasks=[prepared.local.config],
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    theirs = expected["results"]["hellaswag_sample"]
    metrics = result.evaluation.metrics
    assert metrics["accuracy"].value == pytest.approx(theirs["acc,none"])
    assert metrics["accuracy.normalised"].value == pytest.approx(theirs["acc_norm,none"])
    right = {s["doc"]["id"]: s["acc_norm"] for s in expected["samples"]["hellaswag_sample"]}
    assert {p.id.partition("/")[2]: float(p.correct) for p in result.predictions} == right
    main = result.evaluation.main
    assert (main.name, main.n, main.method) == ("accuracy.normalised", 25, "wilson")
    assert main.ci95 == pytest.approx(wilson_interval(sum(right.values()), 25))


def test_base_and_adapter_are_paired_item_by_item(engine: Engine, tiny_model: Path) -> None:
    prepared = prepare(BenchmarkConfig(task="hellaswag_sample", limit=40))
    tokenizer = load_tokenizer(tiny_model)
    base = run_benchmark(engine, tokenizer, prepared, subject=BASE)
    tuned = run_benchmark(engine, tokenizer, prepared, subject=Subject("tuned", BASE.base, "a"))
    assert tuned.evaluation.id != base.evaluation.id
    (compared,) = compare_results(tuned, [base])
    assert (compared.n, compared.only_a, compared.only_b) == (40, 0, 0)
    assert compared.fixed + compared.broken > 0
    gain = tuned.evaluation.main.value - base.evaluation.main.value
    assert compared.difference == pytest.approx(gain)


def test_answers_that_are_written_are_read_by_each_of_the_task_s_rules(
    engine: Engine, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(BenchmarkConfig(task="gsm8k_sample", limit=3))
    assert prepared.local is not None
    golds = [d["answer"] for d in prepared.local.config["custom_dataset"]()["test"]]
    said = [golds[0], f"so it is {golds[1].rpartition('#### ')[2]}", "no number"]

    def answered(_: Any, requests: Any, **__: Any) -> list[str]:
        return said[: len(requests)]

    from tunery.benchmarks.lm import EngineLm

    monkeypatch.setattr(EngineLm, "generate_until", answered)
    result = run_benchmark(engine, load_tokenizer(tiny_model), prepared, subject=BASE)
    assert [p.scores["exact_match.strict"] for p in result.predictions] == [1, 0, 0]
    assert [p.scores["exact_match.flexible"] for p in result.predictions] == [1, 1, 0]
    assert [p.correct for p in result.predictions] == [True, False, False]


def test_prompts_that_lose_their_beginning_are_told_of(engine: Engine, tiny_model: Path) -> None:
    prepared = prepare(BenchmarkConfig(task="gsm8k_sample", limit=1))
    result = run_benchmark(engine, load_tokenizer(tiny_model), prepared, subject=BASE)
    assert result.evaluation.main.n == 1
    assert "lost their beginning" in result.evaluation.warnings[0]


def test_without_the_harness_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise benchmark.PackageNotFoundError

    monkeypatch.setattr(benchmark, "version", missing)
    with pytest.raises(ConfigError) as refused:
        prepare(BenchmarkConfig(task="mmlu_sample"))
    assert refused.value.hint == 'pip install "tunery[benchmarks]"'


@pytest.mark.slow
def test_tasks_of_the_hub_need_a_network_and_unknown_ones_are_named(engine: Engine, tiny_model: Path) -> None:
    """The harness reads all its definitions, which takes seconds."""
    with pytest.raises(NotFoundError, match="hellaswag"):
        prepare(BenchmarkConfig(task="helaswag_sample"))
    prepared = prepare(BenchmarkConfig(task="arc_easy"))
    with pytest.raises(ConfigError, match="cannot be had from the hub") as refused:
        run_benchmark(engine, load_tokenizer(tiny_model), prepared, subject=BASE)
    assert "mmlu_sample" in str(refused.value.hint)
