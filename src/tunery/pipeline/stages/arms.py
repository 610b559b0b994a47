"""Arms beside prompting: what answers the test rows without the recipe's base, on the same terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, ConflictError
from tunery.core.evaluation import Prediction
from tunery.core.example import Example
from tunery.core.run import Run
from tunery.endpoint.ask import Asking
from tunery.endpoint.client import key_of
from tunery.evaluate.arms.answers import GivenAnswers
from tunery.evaluate.arms.config import EndpointArm
from tunery.evaluate.arms.endpoint import ask_endpoint, endpoint_subject
from tunery.evaluate.arms.tfidf import classify, tfidf_subject
from tunery.evaluate.ask import Completions
from tunery.evaluate.kept import KeptAnswers
from tunery.evaluate.metrics import PERPLEXITY, PREFERENCE_ACCURACY
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult, evaluation_id
from tunery.evaluate.task import Task
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, make_dataset, split_of
from tunery.pipeline.stages.evaluate import measure, predictions_of, test_task
from tunery.store.urls import whole_path
from tunery.store.workspace import Workspace

ARMS = "arms"
"""Folder of a workspace that holds what endpoints were paid for."""
_EVERY = 100_000


class Arm(NamedTuple):
    """Something that answers, and how its answers are come by."""

    subject: Subject
    task: Task
    """On the rows that it answers."""
    answer: Callable[[KeptAnswers], Completions]


def arms_of(context: RunContext, dataset: DatasetVersion, task: Task) -> tuple[Arm, ...]:
    """Return the arms that the recipe wants measured beside prompting; nobody is asked yet.

    Raises:
        ConfigError: A file of answers cannot be used, the environment lacks an endpoint's key, or the metric
            that decides needs likelihoods, which none of them has.
    """
    named = context.recipe.evaluate.arms
    if task.main_metric in (PERPLEXITY, PREFERENCE_ACCURACY):
        if named:
            raise ConfigError(
                f"evaluate.arms: {', '.join(named)} have no likelihoods, which {task.main_metric} needs",
                param="evaluate.arms",
            )
        return ()
    train = answers_to_reach(split_of(context, dataset, "train"))
    arms = []
    if task.labels and task.config.baseline.tfidf and train:
        arms.append(Arm(tfidf_subject(train), task, lambda _: classify(task, train)))
    for name, config in named.items():
        if isinstance(config, EndpointArm):
            arms.append(_endpoint(context, name, config, task, train))
        else:
            arms.append(
                _given(context, name, GivenAnswers(Path(whole_path(config.answers, context.base_dir))), task)
            )
    return tuple(arms)


def measure_arm(context: RunContext, arm: Arm) -> EvaluationResult:
    """Let an arm answer the test rows, or find the evaluation that was made of it before."""
    return measure(context, arm.task, arm.subject, answer=arm.answer)


class AskedAgain(NamedTuple):
    """An endpoint that was asked again."""

    name: str
    evaluation: str
    before: int
    """Rows without an answer [count]."""
    left: int
    """Of those, rows still without one [count]."""


def ask_again(context: RunContext) -> list[AskedAgain]:
    """Ask the recipe's endpoints again for the rows that they gave no answer to, and measure them anew.

    What they answered is paid for and not asked again. A run that was refused by such an evaluation is judged
    again when its recipe is run again.

    Raises:
        ConflictError: A registered version was judged by these answers, which then have to stay.
        ConfigError: As :func:`arms_of`.
    """
    workspace, dataset = context.workspace, make_dataset(context)
    found = []
    for arm in arms_of(context, dataset, test_task(context, dataset)):
        identity = evaluation_id(arm.task, arm.subject)
        if arm.subject.engine.get("arm") != "endpoint" or not workspace.artifacts.has(
            "evaluations", identity
        ):
            continue
        before = _unanswered(predictions_of(workspace, identity))
        if not before:
            continue
        runs = [r for r in workspace.runs.list(_EVERY) if identity in r.evaluations.values()]
        if versions := [r.model_version for r in runs if r.model_version]:
            raise ConflictError(
                f"{', '.join(versions)} was judged by these answers of {arm.subject.name}, which stay as "
                "they are",
                hint="give the recipe another name to judge a model by new ones",
            )
        workspace.artifacts.delete("evaluations", identity)
        left = _unanswered(measure_arm(context, arm).predictions)
        found.append(AskedAgain(arm.subject.name, identity, before, left))
    return found


def was_asked_again_since(workspace: Workspace, run: Run) -> bool:
    """Say whether an endpoint gave other answers after a run's gate had refused."""
    gate = workspace.gates.find(run.gate_id or "")
    measured = [workspace.evaluations.find(identity) for identity in run.evaluations.values()]
    return gate is not None and any(
        e.created_at > gate.created_at for e in measured if e is not None and e.arm == "endpoint"
    )


def _unanswered(predictions: Sequence[Prediction]) -> int:
    return sum(p.finish_reason == "error" for p in predictions)


def _given(context: RunContext, name: str, given: GivenAnswers, task: Task) -> Arm:
    shared, missing = given.shared(task), given.missing(task.examples)
    if missing:
        context.progress.event(f"{name}: {missing}", level="warn")
    return Arm(given.subject(name), shared, lambda _: given.completions(shared))


def _endpoint(
    context: RunContext, name: str, config: EndpointArm, task: Task, train: Sequence[Example]
) -> Arm:
    key_of(config)
    if config.is_open_to_listeners:
        message = f"{config.base_url} is not https: key and rows cross the network in the clear"
        context.progress.event(f"{name}: {message}", level="warn")
    if not context.recipe.data.clean.mask_pii:
        message = f"data.clean.mask_pii is off: test rows go to {config.host} unmasked"
        context.progress.event(f"{name}: {message}", level="warn")
    subject = endpoint_subject(name, config, task, train, context.tokenizer)
    folder = context.workspace.root / ARMS
    asking = Asking(
        now=context.workspace.clock.now, should_stop=context.should_stop, progress=context.progress
    )
    return Arm(subject, task, lambda _: ask_endpoint(config, task, subject, folder, asking))
