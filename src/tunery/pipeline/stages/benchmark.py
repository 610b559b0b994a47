"""Published benchmarks: of any model on demand, and of base and tuned model as suites of the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from tunery.benchmarks.config import BenchmarkConfig
from tunery.benchmarks.run import Prepared, benchmark_id, prepare, run_benchmark
from tunery.core.run import TUNED
from tunery.core.training import Adapter
from tunery.evaluate.comparison import compare_results
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult
from tunery.gate.gate import SuiteResult
from tunery.gate.rules import GateRule, metrics_to_compare
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.evaluate import found_or_made, tuned_subject
from tunery.pipeline.stages.evaluate_file import adapter_of, is_base
from tunery.registry.versions import resolve


class Compared(NamedTuple):
    """A model on one benchmark, beside the base where it is not the base itself."""

    result: EvaluationResult
    beside: SuiteResult | None


def benchmark_model(context: RunContext, model: str, benchmarks: Sequence[BenchmarkConfig]) -> list[Compared]:
    """Run benchmarks on a registered version or the base, or find what was made of them before.

    A version is compared with its base item by item.

    Args:
        context: Of the recipe whose base it is.
        model: ``name@N``, ``name@alias``, ``name``; or ``base``.
        benchmarks: What to run.

    Raises:
        NotFoundError: No such version or benchmark.
        ConfigError: The version stands on another base, or a benchmark cannot be run here.
    """
    adapter, name = None, model
    if not is_base(context, model):
        version = resolve(context.workspace, model)
        adapter, name = adapter_of(context, version), version.ref
    prepared = [prepare(benchmark) for benchmark in benchmarks]
    if adapter is None:
        return [Compared(_measure(context, found, _base(context, found)), None) for found in prepared]
    found = []
    for one in prepared:
        base, tuned = _measure(context, one, _base(context, one)), _tuned(context, one, adapter, name)
        found.append(Compared(tuned, _beside(base, tuned)))
    return found


def prepared_benchmarks(context: RunContext) -> dict[str, Prepared]:
    """Look whether the recipe's benchmarks can be run here.

    Raises:
        NotFoundError: No such benchmark.
        ConfigError: A benchmark cannot be run here.
    """
    wanted = context.recipe.evaluate.benchmarks
    return {name: prepare(benchmark, context.base_dir) for name, benchmark in wanted.items()}


def measure_benchmarks(
    context: RunContext, adapter: Adapter, rules: Sequence[GateRule]
) -> dict[str, SuiteResult]:
    """Run the recipe's benchmarks on base and tuned model, and compare the two item by item."""
    found = {}
    for name, prepared in prepared_benchmarks(context).items():
        base = _measure(context, prepared, _base(context, prepared))
        tuned = _tuned(context, prepared, adapter, TUNED)
        found[name] = _beside(base, tuned, metrics_to_compare(rules, name))
    return found


def _beside(base: EvaluationResult, tuned: EvaluationResult, metrics: Sequence[str] = ()) -> SuiteResult:
    return SuiteResult(base.evaluation, tuned.evaluation, compare_results(tuned, [base], metrics=metrics))


def _base(context: RunContext, prepared: Prepared) -> Subject:
    return Subject(f"base on {prepared.benchmark.task}", context.base.label)


def _tuned(context: RunContext, prepared: Prepared, adapter: Adapter, name: str) -> EvaluationResult:
    subject = tuned_subject(context, adapter, name=f"{name} on {prepared.benchmark.task}")
    return _measure(context, prepared, subject, adapter)


def _measure(
    context: RunContext, prepared: Prepared, subject: Subject, adapter: Adapter | None = None
) -> EvaluationResult:
    subject = replace(subject, engine=context.engine_settings.identity)

    def compute() -> EvaluationResult:
        engine, tokenizer = context.engine(adapter), context.tokenizer
        return run_benchmark(
            engine,
            tokenizer,
            prepared,
            subject=subject,
            progress=context.progress,
            clock=context.workspace.clock,
        )

    return found_or_made(context, benchmark_id(prepared, subject), compute, adapter)
