"""Arms beside prompting: what answers the test rows without the recipe's base, on the same terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.evaluate.arms.tfidf import classify, tfidf_subject
from tunery.evaluate.ask import Completions
from tunery.evaluate.kept import KeptAnswers
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.task import Task
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, split_of
from tunery.pipeline.stages.evaluate import measure


class Arm(NamedTuple):
    """Something that answers, and how its answers are come by."""

    subject: Subject
    answer: Callable[[KeptAnswers], Completions]


def arms_of(context: RunContext, dataset: DatasetVersion, task: Task) -> tuple[Arm, ...]:
    """Return the arms that the recipe wants measured beside prompting; nothing is computed yet."""
    train = answers_to_reach(split_of(context, dataset, "train"))
    arms = []
    if task.labels and task.config.baseline.tfidf and train:
        arms.append(Arm(tfidf_subject(train), lambda _: classify(task, train)))
    return tuple(arms)


def measure_arm(context: RunContext, task: Task, arm: Arm) -> EvaluationResult:
    """Let an arm answer the test rows, or find the evaluation that was made of it before."""
    return measure(context, task, arm.subject, answer=arm.answer)
