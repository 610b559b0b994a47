"""What a run will measure, settled and checked before anything is spent on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tunery.core.canaries import SUITE as CANARIES
from tunery.core.dataset import DatasetVersion
from tunery.evaluate.prompting import Subject
from tunery.evaluate.task import Task
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages import evaluate as ev
from tunery.pipeline.stages.arms import Arm, arms_of
from tunery.pipeline.stages.benchmark import prepared_benchmarks
from tunery.pipeline.stages.canaries import planted_by
from tunery.pipeline.stages.gate import check_gate, undecidable_rules, what_rows_can_show
from tunery.pipeline.stages.memorised import SUITE as MEMORISED
from tunery.pipeline.stages.memorised import memory_tasks
from tunery.pipeline.stages.suites import suite_tasks


class Settled(NamedTuple):
    """What is measured before training, and by which questions."""

    task: Task
    """On the test split."""
    baselines: tuple[Subject, ...]
    arms: tuple[Arm, ...]
    """What answers beside the prompted base."""
    suites: Mapping[str, Task]
    """Suite to what base and tuned model are asked."""
    begun: Mapping[str, Task]
    """Begun answers of train and test rows, which the tuned model alone goes on with."""
    power: str | None
    """What gain the test split can show; None where that cannot be said beforehand."""
    undecidable: Sequence[str]
    """Rules of the gate that the rows are too few to decide."""


def settle(context: RunContext, dataset: DatasetVersion) -> Settled:
    """Settle what is measured on the test split and on the suites.

    What could only fail after training is looked for now: metrics and rules that the rows cannot bear, suites
    that cannot be read, prompts that the base's window cannot hold.

    Raises:
        ConfigError: Says which setting is at fault.
    """
    task = ev.test_task(context, dataset)
    baselines = ev.baseline_subjects(context, dataset, task)
    arms = arms_of(context, dataset, task)
    suites = suite_tasks(context)
    prepared_benchmarks(context)
    memory = memory_tasks(context, dataset)
    others = [
        *context.recipe.evaluate.benchmarks,
        *([CANARIES] if planted_by(context.recipe) else []),
        *([MEMORISED] if memory else []),
    ]
    check_gate(context, task, [*baselines, *(arm.subject for arm in arms)], suites, others)
    for name, suite in suites.items():
        ev.check_window(context, dataset, suite, what=f"suite {name}: ")
    return Settled(
        task,
        baselines,
        arms,
        suites,
        {"begun train answers": memory.seen, "begun test answers": memory.unseen} if memory else {},
        what_rows_can_show(context, task),
        undecidable_rules(context, task, suites),
    )
