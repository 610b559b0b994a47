"""Checkpoints that were kept: what each answers on the validation split, beside the model that was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import NotFoundError, listed
from tunery.core.evaluation import CheckpointScore
from tunery.core.figures import counted, metric_value
from tunery.core.ids import sha256_file
from tunery.core.run import TUNED
from tunery.core.statistics import holm
from tunery.core.training import ADAPTER_WEIGHTS, Adapter, kept_steps, step_folder
from tunery.evaluate.ask import Completions, ask
from tunery.evaluate.comparison import compare, verdict_of
from tunery.evaluate.kept import KeptAnswers
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.task import Task
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, split_of
from tunery.pipeline.stages.evaluate import measure, tuned_subject
from tunery.pipeline.stages.train import adapter_id, dataset_to_train_on, find_adapter, validation_task
from tunery.store.adapters import adapter_folder

_SHOWN = 3


def measure_checkpoints(
    context: RunContext, dataset: DatasetVersion, adapter: Adapter
) -> tuple[CheckpointScore, ...]:
    """Have every kept checkpoint answer the validation split, and compare each with the model that was made.

    The test split is not touched: the best of many on the test split would be the luckiest one, and its
    figure too high. Which step's weights the model has is settled before, by `train.keep` and
    `train.best_by`, on validation rows alone; the test figure is that model's.

    Returns:
        By step; nothing where no checkpoint was kept, or there are no validation rows.
    """
    folder = adapter_folder(context.workspace, adapter)
    steps, rows = kept_steps(folder), answers_to_reach(split_of(context, dataset, "validation"))
    if not steps or not rows:
        return ()
    task = validation_task(context, dataset, rows, limit=context.recipe.evaluate.limit)
    subject = tuned_subject(context, adapter, name=f"{TUNED} on validation")
    made = measure(context, task, subject, adapter)
    results = [_measured(context, task, adapter, step_folder(folder, step), step) for step in steps]
    return _scores(task, adapter, made, dict(zip(steps, results, strict=True)))


def checkpoints_of_recipe(context: RunContext) -> tuple[CheckpointScore, ...]:
    """Measure the checkpoints of a recipe that was trained before.

    Raises:
        NotFoundError: It was not trained, or kept no checkpoint that validation rows could be put to.
    """
    dataset = dataset_to_train_on(context)
    adapter = find_adapter(context, adapter_id(context, dataset))
    if adapter is None:
        raise NotFoundError(f"{context.recipe.name} is not trained", hint="tunery train run RECIPE")
    found = measure_checkpoints(context, dataset, adapter)
    if not found:
        raise NotFoundError(
            f"{adapter.id} has no kept checkpoints, or {dataset.id} no validation rows to put to them",
            hint="train.keep_checkpoints=all, and data.split.validation above 0",
        )
    return found


def checkpoints_sentence(scores: tuple[CheckpointScore, ...]) -> str | None:
    """Return what the checkpoints' answers show in a sentence; None where none was kept."""
    if not scores:
        return None
    better = [f"step {one.step} ({metric_value(one.metric)})" for one in scores if one.verdict == "better"]
    title, asked = scores[0].metric.title, counted(scores[0].metric.n, "validation row")
    if better:
        return (
            f"{listed(better, _SHOWN)} answers better than the model on {asked} by {title}: "
            "train.best_by chooses by answers"
        )
    best = best_of_scores(scores)
    return (
        f"none of {counted(len(scores), 'kept checkpoint')} is shown to answer better than the model on "
        f"{asked} (best {title}: {metric_value(best.metric)}, step {best.step})"
    )


def best_of_scores(scores: tuple[CheckpointScore, ...]) -> CheckpointScore:
    """Return the checkpoint that no other exceeds, the first of equals."""
    sign = 1 if scores[0].metric.higher_is_better else -1
    return max(scores, key=lambda one: (sign * one.metric.value, -one.step))


def _measured(context: RunContext, task: Task, adapter: Adapter, folder: Path, step: int) -> EvaluationResult:
    """Evaluate a checkpoint under a name that its weights are part of."""
    name = f"{adapter.id}-step-{step}-{sha256_file(folder / ADAPTER_WEIGHTS)[:12]}"
    of_model = tuned_subject(context, adapter, name=f"step {step}")
    subject = replace(of_model, adapter=name, engine=context.engine_settings.identity)

    def answer(kept: KeptAnswers) -> Completions:
        engine = context.engine()
        engine.load_adapter(name, str(folder))
        try:
            return ask(engine, context.tokenizer, task, subject=subject, progress=context.progress, kept=kept)
        finally:
            engine.unload_adapter(name)

    return measure(context, task, subject, answer=answer)


def _scores(
    task: Task, adapter: Adapter, made: EvaluationResult, results: dict[int, EvaluationResult]
) -> tuple[CheckpointScore, ...]:
    main = task.main_metric
    compared = {
        step: compare(made.predictions, found.predictions, metric=main, options=task.scorer_options)
        for step, found in results.items()
        if main in found.evaluation.metrics and main in made.evaluation.metrics
    }
    adjusted = holm([one.p_value for one in compared.values()])
    scores = []
    for (step, one), p in zip(compared.items(), adjusted, strict=True):
        scores.append(
            CheckpointScore(
                step=step,
                chosen=step == adapter.best_step,
                evaluation=results[step].evaluation.id,
                metric=results[step].evaluation.metrics[main],
                difference=one.difference,
                ci95=one.ci95,
                p_value=p,
                verdict=verdict_of(one.difference, p),
            )
        )
    return tuple(scores)
