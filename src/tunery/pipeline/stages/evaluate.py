"""Stages 3 and 5: baselines, the tuned model, the champion and the suites, on the engine that serves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import BusyError, ConfigError, listed
from tunery.core.evaluation import Prediction
from tunery.core.example import Example, where
from tunery.core.figures import counted
from tunery.core.run import CHAMPION, START, TRAINER, TUNED
from tunery.core.training import Adapter
from tunery.evaluate import prompting
from tunery.evaluate.ask import Completions, ask
from tunery.evaluate.kept import KeptAnswers
from tunery.evaluate.metrics import COST, WIN_RATE
from tunery.evaluate.predictions import read_predictions, write_predictions
from tunery.evaluate.prompting import Prompting, Subject, Window, prompt_lengths
from tunery.evaluate.retrieval import Likeness
from tunery.evaluate.run import EvaluationResult, evaluation_id, judged
from tunery.evaluate.task import Task, make_task
from tunery.gate.rules import GateRule
from tunery.model.bases import check_base
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, sentence_encoder, split_of, tokenizer_of
from tunery.pipeline.stages.judge import judge_of, metrics_of
from tunery.serve.engines.transformers import TransformersSettings
from tunery.store.left_overs import kept_answers
from tunery.store.workspace import Workspace

PREDICTIONS = "predictions.jsonl"
_SHOWN = 5
"""Rows at fault that a sentence names [count]."""
_WEIGHTS = "adapter_sha256"
"""What an evaluation's manifest calls the checksum of the weights that it measured."""


def test_task(context: RunContext, dataset: DatasetVersion) -> Task:
    """Settle what is measured on the test split.

    Raises:
        ConfigError: There is no test split, or a metric does not fit the data.
    """
    task = make_task(
        _references(context, dataset),
        data=f"{dataset.id}/test",
        config=context.recipe.evaluate,
        main_metric=context.recipe.goal.metric,
        labels=dataset.labels,
        models=judge_of(context, f"{dataset.id}/test", metrics_of(context.recipe)),
        also=[rule.metric for rule in context.recipe.gate.rules if _is_of_answers(rule)],
    )
    check_window(context, dataset, task)
    return task


def _is_of_answers(rule: GateRule) -> bool:
    """Return whether a rule looks at a metric of the answers to the test split."""
    on_test = rule.on is None and rule.no_regression_on is None
    return on_test and rule.metric not in ("", COST, WIN_RATE)


def _references(context: RunContext, dataset: DatasetVersion) -> list[Example]:
    """Return the rows of the test split whose answers are right ones.

    Raises:
        ConfigError: There is none.
    """
    test = split_of(context, dataset, "test")
    wanted = answers_to_reach(test)
    if len(wanted) < len(test):
        message = (
            f"{len(wanted):,} of {counted(len(test), 'test row')} have a desirable answer to be held "
            "against; the others are not asked"
        )
        if not wanted:
            raise ConfigError(message, hint="data.split.test=0.2, or rows with desirable answers")
        context.progress.event(message)
    return wanted


def check_window(context: RunContext, dataset: DatasetVersion, task: Task, *, what: str = "") -> None:
    """Look whether rows fit the base's window as training shows them; tell of those that do not.

    Args:
        what: Put before the sentence, where it is not about the test split.

    Raises:
        ConfigError: None does.
    """
    lengths = prompt_lengths(tokenizer_of(context, dataset), Prompting(), task.examples)
    rows, over = len(task.examples), [e for e in task.examples if lengths.get(e.id, 0) >= context.window]
    if not over:
        return
    told = (
        f"{what}{len(over)} of {counted(rows, 'test row')} leave no room for an answer in the base's window "
        f"of {context.window:,} tokens: {listed([where(e) for e in over], _SHOWN)}"
    )
    if len(over) == rows:
        raise ConfigError(told, hint="shorten the rows or their system prompt, or take another base")
    context.progress.event(f"{told}; they count as answered with nothing", level="warn")


def baseline_subjects(context: RunContext, dataset: DatasetVersion, task: Task) -> tuple[Subject, ...]:
    """Return the prompted baselines to measure; solved examples come from the train split alone."""
    return prompting.baseline_subjects(
        task,
        answers_to_reach(split_of(context, dataset, "train")),
        base=context.base.label,
        tokenizer=context.tokenizer,
        window=Window(context.window, partial(context.progress.event, level="warn")),
        day=dataset.day if context.tokenizer.writes_day else None,
        likeness=likeness(),
    )


def likeness() -> Likeness:
    """Return by what nearest examples are found: the sentence encoder where it is installed, else words."""
    from tunery.model.encoder_package import ENCODER_NAME, is_installed

    return Likeness(ENCODER_NAME, sentence_encoder) if is_installed() else Likeness()


def tuned_subject(context: RunContext, adapter: Adapter, *, name: str = TUNED) -> Subject:
    """Return an adapter as a subject, asked as it was trained."""
    asked = Prompting(day=asked_on(context, adapter))
    return Subject(name, context.base.label, adapter.id, adapter.model is not None, asked)


def asked_on(context: RunContext, adapter: Adapter) -> date | None:
    """Return the day that an adapter is asked on, where its base's template writes one."""
    return adapter.asked_on if context.tokenizer.writes_day else None


def measure(
    context: RunContext,
    task: Task,
    subject: Subject,
    adapter: Adapter | None = None,
    *,
    answer: Callable[[KeptAnswers], Completions] | None = None,
) -> EvaluationResult:
    """Evaluate one subject with its adapter, or find the evaluation that was made of it before.

    Args:
        context: Of the run.
        task: What is asked.
        subject: Who is.
        adapter: What it answers with.
        answer: Gives all answers where the engine does not.
    """
    if answer is None:
        subject = replace(subject, engine=context.engine_settings.identity)
        answer = partial(_by_engine, context, task, subject, adapter)
    identity = evaluation_id(task, subject)

    def compute() -> EvaluationResult:
        with _kept(context.workspace, identity, adapter) as kept:
            started = time.monotonic()
            return judged(
                task,
                subject,
                answer(kept),
                started=started,
                progress=context.progress,
                clock=context.workspace.clock,
            )

    return found_or_made(context, identity, compute, adapter)


def found_or_made(
    context: RunContext, identity: str, compute: Callable[[], EvaluationResult], adapter: Adapter | None
) -> EvaluationResult:
    """Return a stored evaluation where it is whole and of these weights, else make it and store it."""
    context.check_stop()
    workspace = context.workspace
    known = workspace.evaluations.find(identity)
    if known is not None and _is_whole(context, identity, adapter):
        return EvaluationResult(known, predictions_of(workspace, identity))
    result = compute()
    about = {"subject": result.evaluation.subject, _WEIGHTS: adapter.sha256 if adapter else None}
    with workspace.artifacts.create("evaluations", identity, about) as folder:
        write_predictions(folder / PREDICTIONS, result.predictions)
    kept_answers(workspace.root, identity).unlink(missing_ok=True)
    if known is None:
        workspace.evaluations.add(result.evaluation)
    elif known.metrics == result.evaluation.metrics:
        return result._replace(evaluation=known)
    else:
        workspace.evaluations.change(identity, lambda _: result.evaluation)
        context.progress.event(f"{identity} came out different from before", level="warn")
    return result


def _by_engine(
    context: RunContext, task: Task, subject: Subject, adapter: Adapter | None, kept: KeptAnswers
) -> Completions:
    engine = context.engine(adapter)
    return ask(engine, context.tokenizer, task, subject=subject, progress=context.progress, kept=kept)


def _kept(workspace: Workspace, identity: str, adapter: Adapter | None) -> KeptAnswers:
    """Return what an evaluation that was cut off left of its answers, by the same weights."""
    path = kept_answers(workspace.root, identity)
    path.parent.mkdir(exist_ok=True)
    try:
        return KeptAnswers(path, f"{identity} by {adapter.sha256 if adapter else 'the base'}")
    except BusyError:
        return KeptAnswers()  # another process is at the same evaluation; whoever ends first is kept


def _is_whole(context: RunContext, identity: str, adapter: Adapter | None) -> bool:
    """Say whether a stored evaluation may be used: whole, and of the weights that the adapter has now."""
    artifacts = context.workspace.artifacts
    if artifacts.whole("evaluations", identity, context.progress) is None:
        return False
    measured = artifacts.about("evaluations", identity).get(_WEIGHTS)
    # Earlier versions of Tunery did not note the weights.
    if adapter is None or measured in (None, adapter.sha256):
        return True
    # Whole in itself, so it would be kept as the one that came first.
    artifacts.delete("evaluations", identity)
    return False


def measure_start(context: RunContext, task: Task, adapter: Adapter) -> EvaluationResult:
    """Evaluate the model that training of an adapter went on from, asked like what came out of it.

    Raises:
        NotFoundError: The adapter it went on from is gone.
    """
    start = context.workspace.adapters.get(adapter.start_adapter or "")
    return measure(context, task, tuned_subject(context, start, name=START), start)


def measure_trainer(context: RunContext, task: Task, adapter: Adapter) -> EvaluationResult:
    """Evaluate an adapter as training computed it: by transformers and PEFT, one row at a time."""
    context.release_engine()
    there = context.on_engine(TransformersSettings(device=context.recipe.train.device))
    try:
        return measure(there, task, tuned_subject(there, adapter, name=TRAINER), adapter)
    finally:
        there.release_engine()


def check_champion(context: RunContext) -> None:
    """Check, before anything is computed, that the champion can be measured on the base that it was made on.

    Its adapter is not looked at: it may be the very one that this run makes again.

    Raises:
        DamagedError: The files of that base are gone, or not what was recorded.
    """
    models = context.workspace.models
    number = models.aliases(context.recipe.name).get(CHAMPION)
    if number is None:
        return
    base = context.workspace.adapters.get(models.get(context.recipe.name, number).adapter_id).base
    if base.sha256 != context.base.sha256:
        check_base(base)


def measure_champion(
    context: RunContext, task: Task, dataset: DatasetVersion, challenger: Adapter
) -> EvaluationResult | None:
    """Evaluate the version that is champion under the recipe's name now, on its own base, asked its own way.

    None where there is no champion, and where it is the very adapter just trained: nothing gains over itself.
    """
    models = context.workspace.models
    number = models.aliases(context.recipe.name).get(CHAMPION)
    if number is None:
        return None
    version = models.get(context.recipe.name, number)
    adapter = context.workspace.adapters.get(version.adapter_id)
    if adapter.id == challenger.id:
        context.progress.event(f"champion {version.ref} is this very adapter: not compared with itself")
        return None
    return measure_as_champion(context, task, dataset, adapter)


def measure_as_champion(
    context: RunContext, task: Task, dataset: DatasetVersion, adapter: Adapter
) -> EvaluationResult:
    """Evaluate the adapter of a version that is, or was, champion, on its own base, asked its own way."""
    # Served with the system prompt it was trained with, so measured with it too.
    same = adapter.system_prompt == dataset.system_prompt
    own = None if same else adapter.system_prompt or ""
    here = adapter.base.sha256 == context.base.sha256
    there = context if here else context.on_base(adapter.base)
    asked = Prompting(system_prompt=own, day=asked_on(there, adapter))
    try:
        subject = replace(tuned_subject(there, adapter, name=CHAMPION), prompting=asked)
        return measure(there, task, subject, adapter)
    finally:
        if not here:
            there.release_engine()


def predictions_of(workspace: Workspace, evaluation: str) -> tuple[Prediction, ...]:
    """Return a stored evaluation's answers."""
    return tuple(read_predictions(workspace.artifacts.path("evaluations", evaluation) / PREDICTIONS))
