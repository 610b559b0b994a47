"""Named suites: their rows, what they take, and what base and tuned model reach on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from tunery.core.dataset import DatasetVersion
from tunery.core.engine import Tokenizer
from tunery.core.errors import RefusedByTemplate
from tunery.core.example import Example, Message
from tunery.core.run import TUNED
from tunery.core.training import Adapter
from tunery.data.config import DataConfig
from tunery.evaluate.ask import BEGUN, choices_of
from tunery.evaluate.comparison import compare_results
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.prompting import Prompting, Subject
from tunery.evaluate.run import evaluation_id
from tunery.evaluate.suites import builtin_suite
from tunery.evaluate.task import Task, make_task
from tunery.gate.gate import SuiteResult
from tunery.gate.rules import GateRule, metrics_to_compare
from tunery.model.token_tree import computed_tokens
from tunery.pipeline.context import RunContext
from tunery.pipeline.recipe import SuiteConfig
from tunery.pipeline.stages.data import tokenizer_of
from tunery.pipeline.stages.evaluate import asked_on, measure, tuned_subject
from tunery.pipeline.stages.judge import judge_of
from tunery.plan.forecast import PlannedSuite
from tunery.store.urls import whole_path


def measure_suites(
    context: RunContext, adapter: Adapter, rules: Sequence[GateRule]
) -> dict[str, SuiteResult]:
    """Evaluate base and tuned model on every named suite, and compare the two on its rows."""
    found = {}
    for name, task in suite_tasks(context).items():
        tuned = tuned_subject(context, adapter, name=f"{TUNED} on {name}")
        base = base_on_suite(context, name, asked_on(context, adapter))
        before, after = measure(context, task, base), measure(context, task, tuned, adapter)
        wanted = [*metrics_to_compare(rules, name), *task.parts]
        compared = compare_results(after, [before], metrics=wanted)
        found[name] = SuiteResult(before.evaluation, after.evaluation, compared)
    return found


def base_on_suite(context: RunContext, suite: str, day: date | None) -> Subject:
    """Return the base as what a tuned model is compared with on a suite.

    Its answers depend on base, rows and engine alone, so every run of a home finds those of the first.
    """
    return Subject(f"base on {suite}", context.base.label, prompting=Prompting(day=day))


def is_measured(context: RunContext, task: Task, subject: Subject) -> bool:
    """Return whether a subject's answers to a task are kept already."""
    identity = evaluation_id(task, replace(subject, engine=context.engine_settings.identity))
    return context.workspace.evaluations.find(identity) is not None


def suite_tasks(context: RunContext) -> dict[str, Task]:
    """Read the suites' rows and settle what is measured on them.

    Raises:
        ConfigError: A file is missing or does not fit its mapping.
    """
    tasks = {}
    for name, suite in context.recipe.evaluate.suites.items():
        config = EvaluateConfig(
            metrics=suite.metrics,
            max_new_tokens=suite.max_new_tokens,
            limit=suite.limit,
            judge=context.recipe.evaluate.judge,
        )
        rows, examples = _suite_rows(context, suite)
        tasks[name] = make_task(
            examples,
            data=rows,
            config=config,
            main_metric=suite.metrics[0],
            models=judge_of(context, rows, suite.metrics),
        )
    return tasks


def _suite_rows(context: RunContext, suite: SuiteConfig) -> tuple[str, Sequence[Example]]:
    """Return what a suite's rows are known by, and the rows with its system turn."""
    from tunery.data.read_file import read_file

    identity = f"sha256:{suite_sha256(context, suite)}"
    if suite.source is not None:
        data = DataConfig(sources=(suite.source,), system_prompt=suite.system_prompt)
        return identity, read_file(whole_path(suite.source.path, context.base_dir), suite.source, data)
    examples = builtin_suite(str(suite.builtin)).examples
    if suite.system_prompt is None:
        return f"{suite.builtin}@{identity}", examples
    system = Message(role="system", content=suite.system_prompt)
    return f"{suite.builtin}@{identity}", [e.with_(messages=(system, *e.messages)) for e in examples]


def suite_sha256(context: RunContext, suite: SuiteConfig) -> str:
    """Return the checksum of a suite's rows.

    Raises:
        ConfigError: Its file is missing.
    """
    from tunery.data.readers.source import locate

    if suite.source is None:
        return builtin_suite(str(suite.builtin)).sha256
    return locate(suite.source, context.base_dir).sha256


def planned_suites(
    context: RunContext, dataset: DatasetVersion, suites: Mapping[str, Task]
) -> tuple[PlannedSuite, ...]:
    """Return what each suite's rows have base and tuned model compute."""
    tokenizer, day = tokenizer_of(context, dataset), dataset.day if context.tokenizer.writes_day else None
    found = []
    for name, task in suites.items():
        alone = any(BEGUN in e.metadata for e in task.examples)
        alone = alone or is_measured(context, task, base_on_suite(context, name, day))
        written = sum(not choices_of(e) for e in task.examples)
        found.append(
            PlannedSuite(
                name=name,
                rows=len(task.examples),
                prompt_tokens=computed_tokens(
                    [ids for e in task.examples for ids in _sequences(tokenizer, e)]
                ),
                answer_tokens=written * task.config.max_new_tokens,
                models=1 if alone else 2,
            )
        )
    return tuple(found)


def _sequences(tokenizer: Tokenizer, example: Example) -> list[tuple[int, ...]]:
    """Return what a row of a suite has an engine read: its prompt, or that with each choice behind it."""
    try:
        prompt = tokenizer.render_prompt(Prompting().conversation(example))
        prompt = (*prompt, *tokenizer.encode(str(example.metadata.get(BEGUN, ""))))
    except RefusedByTemplate:
        return []
    return [(*prompt, *tokenizer.encode(text)) for text in choices_of(example)] or [prompt]
