"""A model version, or the base, on any file of examples: the recipe's mapping, the engine that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tunery.core.errors import ConfigError, ConflictError
from tunery.core.evaluation import Comparison, Contamination, Evaluation, Prediction
from tunery.core.ids import sha256_file
from tunery.core.registry import ModelVersion
from tunery.core.training import Adapter
from tunery.evaluate.comparison import CORRECT, compare
from tunery.evaluate.prompting import Subject, baseline_subjects
from tunery.evaluate.scorers import ScorerOptions
from tunery.evaluate.task import Task, make_task
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.contamination import Seen
from tunery.pipeline.stages.data import make_dataset
from tunery.pipeline.stages.evaluate import measure, predictions_of, test_task, tuned_subject
from tunery.pipeline.stages.judge import judge_of, metrics_of
from tunery.registry.versions import resolve
from tunery.store.workspace import Workspace

BASE = "base"
"""Name under which the base model alone is evaluated, prompted zero-shot."""


class MeasuredModel(NamedTuple):
    """An evaluation, the answers behind it, and the rows of it that the model had seen before."""

    evaluation: Evaluation
    predictions: tuple[Prediction, ...]
    contaminated: tuple[Contamination, ...] = ()


def evaluate_model(context: RunContext, model: str, *, test: Path | None = None) -> MeasuredModel:
    """Evaluate a registered version or the base, or find the evaluation that was made of it before.

    The file is read by the mapping of the recipe's first source, with its system prompt, cleaning and
    masking; nothing is dropped, so that every row gets its answer.

    Args:
        model: ``name@N``, ``name@alias``, ``name``; or ``base``, which is asked as the zero-shot baseline is.
        test: Rows to evaluate on; the recipe's test split when None.

    Raises:
        NotFoundError: No such version.
        ConfigError: The version stands on another base, or the file does not fit the mapping.
    """
    if is_base(context, model):
        task = _task(context, test, labels=None)
        return MeasuredModel(*measure(context, task, _base_subject(context, task)))
    version = resolve(context.workspace, model)
    adapter = adapter_of(context, version)
    task = _task(context, test, labels=version.labels)
    result = measure(context, task, tuned_subject(context, adapter, name=version.ref), adapter)
    return MeasuredModel(*result, tuple(Seen(context).in_result(task, result)))


def compare_versions(workspace: Workspace, a: str, b: str) -> Comparison:
    """Compare two versions on the test rows that both answered; positive differences mean B is better.

    Raises:
        NotFoundError: No such version.
        ConflictError: They were not evaluated on the same rows.
    """
    versions = [resolve(workspace, ref) for ref in (a, b)]
    one, other = (workspace.evaluations.get(version.evaluation_id) for version in versions)
    if one.data != other.data:
        raise ConflictError(
            f"{versions[0].ref} was evaluated on {one.data} and {versions[1].ref} on {other.data}",
            hint="tunery evaluate run RECIPE --model NAME@N --test FILE --predictions OUT.jsonl for each, "
            "then tunery evaluate compare",
        )
    return compare(
        predictions_of(workspace, one.id),
        predictions_of(workspace, other.id),
        metric=other.main_metric if one.main_metric == other.main_metric else CORRECT,
        names=(versions[0].ref, versions[1].ref),
        options=ScorerOptions.of_config({**other.config, "labels": versions[1].labels}),
    )


def is_base(context: RunContext, model: str) -> bool:
    """Return whether a name means the base alone."""
    return model in (BASE, context.base.name)


def adapter_of(context: RunContext, version: ModelVersion) -> Adapter:
    """Return a version's adapter.

    Raises:
        ConfigError: The version stands on another base than the recipe's.
    """
    if version.base != context.base.label:
        raise ConfigError(
            f"{version.ref} was trained on base {version.base}; this recipe's base is {context.base.label}",
            hint=f"tunery registry ls --base {context.base.name}",
            param="base",
        )
    return context.workspace.adapters.get(version.adapter_id)


def _task(context: RunContext, test: Path | None, *, labels: Sequence[str] | None) -> Task:
    """Settle what is measured; labels are the version's, for the base those of the recipe's data."""
    if test is None:
        return test_task(context, make_dataset(context))
    from tunery.data.read_file import read_file

    recipe = context.recipe
    examples = read_file(
        test, recipe.data.sources[0], recipe.data
    )  # first: it says what is wrong with a file
    rows = f"sha256:{sha256_file(test)}"
    return make_task(
        examples,
        data=rows,
        config=recipe.evaluate,
        main_metric=recipe.goal.metric,
        labels=labels or make_dataset(context).labels,
        models=judge_of(context, rows, metrics_of(context.recipe)),
    )


def _base_subject(context: RunContext, task: Task) -> Subject:
    plain = task.config.baseline.model_copy(
        update={"zero_shot": True, "few_shot": False, "constrained": False}
    )
    zero_shot = replace(task, config=task.config.model_copy(update={"baseline": plain}))
    day = context.workspace.clock.now().date() if context.tokenizer.writes_day else None
    return baseline_subjects(zero_shot, (), base=context.base.label, tokenizer=context.tokenizer, day=day)[0]
