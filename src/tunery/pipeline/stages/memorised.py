"""Rows learnt by heart: does a model go on with a train row's answer where it does not with a test row's?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.evaluation import Comparison
from tunery.core.example import Example
from tunery.core.run import TUNED
from tunery.core.training import Adapter
from tunery.evaluate.ask import BEGUN
from tunery.evaluate.comparison import verdict_of
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.metrics import title_of
from tunery.evaluate.run import EvaluationResult
from tunery.evaluate.scorers import ScorerOptions, applies, make_scorer
from tunery.evaluate.scorers.verbatim import RUN
from tunery.evaluate.task import Task, make_task
from tunery.gate.gate import SuiteResult
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, split_of
from tunery.pipeline.stages.evaluate import measure, tuned_subject
from tunery.statistics.two_samples import compare_shares

SUITE = "memorised"
"""What gate rules call it: ``memorised.verbatim no worse within 0.1``."""
METRIC = "verbatim"
_FEWEST = 20
"""Rows of either split that say anything [rows]."""
_NEW_TOKENS = 3 * RUN
"""Tokens that a model may go on for; a run of words that counts fits in them [count]."""


class MemoryTasks(NamedTuple):
    """The same question of rows that training saw and of rows that it did not."""

    seen: Task
    unseen: Task


def memory_tasks(context: RunContext, dataset: DatasetVersion) -> MemoryTasks | None:
    """Return what rows are begun; None where it is switched off, or too few answers are long enough."""
    wanted = context.recipe.evaluate.memorised
    if not wanted:
        return None
    seen, unseen = (
        _begun(answers_to_reach(split_of(context, dataset, split)), wanted, context.recipe.evaluate.seed)
        for split in ("train", "test")
    )
    if min(len(seen), len(unseen)) < min(_FEWEST, wanted):
        return None
    config = EvaluateConfig(metrics=(METRIC,), max_new_tokens=_NEW_TOKENS)
    return MemoryTasks(
        *(
            make_task(rows, data=f"{dataset.id}/{split} begun", config=config, main_metric=METRIC)
            for split, rows in (("train", seen), ("test", unseen))
        )
    )


def measure_memory(context: RunContext, dataset: DatasetVersion, adapter: Adapter) -> dict[str, SuiteResult]:
    """Have the tuned model go on with begun answers of either split; nothing where there are no such rows."""
    tasks = memory_tasks(context, dataset)
    if tasks is None:
        return {}
    unseen, seen = (
        measure(context, task, tuned_subject(context, adapter, name=f"{TUNED} on {what} answers"), adapter)
        for task, what in ((tasks.unseen, "unseen"), (tasks.seen, "seen"))
    )
    return {
        SUITE: SuiteResult(
            unseen.evaluation, seen.evaluation, (_compared(unseen, seen),), beside="rows that it never saw"
        )
    }


def _begun(examples: Sequence[Example], limit: int, seed: int) -> list[Example]:
    """Return rows with the first half of their answers begun, one of each group, drawn by the seed."""
    scorer = make_scorer(METRIC, ScorerOptions())
    by_group = {e.group: e for e in sorted(examples, key=lambda e: e.id)}
    rows = [row for e in by_group.values() if (row := _half(e)) is not None and applies(scorer, row)]
    draw = random.Random(f"begun {seed}")  # noqa: S311 - has to come out the same again
    return sorted(draw.sample(rows, min(limit, len(rows))), key=lambda e: e.id)


def _half(example: Example) -> Example | None:
    """Return a row that goes on from the first half of its answer's words; None where it is too short."""
    answer, words = example.reference, example.reference.split()
    if len(words) < 2 * RUN:
        return None
    place = 0
    for word in words[: len(words) // 2]:
        place = answer.index(word, place) + len(word)
    rest = example.messages[-1].model_copy(update={"content": answer[place:]})
    return example.with_(
        messages=(*example.messages[:-1], rest), metadata={BEGUN: answer[:place]}, label=None
    )


def _compared(unseen: EvaluationResult, seen: EvaluationResult) -> Comparison:
    """Compare the two as samples of their splits; a positive difference means less on the rows seen."""
    counts = [
        (round(sum(p.scores[METRIC] for p in result.predictions)), len(result.predictions))
        for result in (unseen, seen)
    ]
    found = compare_shares(counts[1], counts[0])
    return Comparison(
        a=unseen.evaluation.subject,
        b=seen.evaluation.subject,
        metric=METRIC,
        metric_title=title_of(METRIC),
        n=counts[1][1],
        fixed=0,
        broken=0,
        p_value=found.p_value,
        difference=found.difference,
        ci95=tuple(found.ci95),
        test="fisher_exact",
        verdict=verdict_of(found.difference, found.p_value),
        value_a=counts[0][0] / counts[0][1],
        value_b=counts[1][0] / counts[1][1],
    )
