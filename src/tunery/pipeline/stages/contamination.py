"""Rows that a model had seen before it was evaluated on them: counted, named, and left out once more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tunery.core.evaluation import Contamination
from tunery.core.example import Example, prompt_text
from tunery.core.figures import contamination_sentence
from tunery.core.training import Adapter
from tunery.data.rows.identity import same_question
from tunery.evaluate.run import EvaluationResult, main_metric_over
from tunery.evaluate.task import Task
from tunery.gate.gate import SuiteResult
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import split_of
from tunery.pipeline.stages.evaluate import predictions_of
from tunery.pipeline.stages.suites import suite_tasks
from tunery.text.minhash import close_to
from tunery.text.sameness import repeats, words_alone

_SHOWN = 20


def contaminated(
    context: RunContext,
    task: Task,
    results: Mapping[str, EvaluationResult],
    suites: Mapping[str, SuiteResult],
) -> list[Contamination]:
    """Return what the subjects of a run had seen before of its test split and suites, and warn of each."""
    seen = Seen(context)
    found = [row for result in results.values() for row in seen.in_result(task, result)]
    tasks = suite_tasks(context) if suites else {}
    for name, suite in suites.items():
        if name in tasks:
            answers = predictions_of(context.workspace, suite.tuned.id)
            found += seen.in_result(tasks[name], EvaluationResult(suite.tuned, answers))
    return found


class KnownRows(NamedTuple):
    """Ids of rows that stand among others, too."""

    exact: tuple[str, ...]
    """Their prompt does."""
    near: tuple[str, ...]
    """One that is nearly theirs does."""


class Seen:
    """What models had seen: train splits are read, and compared with a task's rows, once."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._trained: dict[str, list[Example] | None] = {}
        self._known: dict[tuple[str, str, tuple[str, ...]], KnownRows] = {}

    def in_result(self, task: Task, result: EvaluationResult) -> list[Contamination]:
        """Return what a subject had seen of the rows that it answered, and warn of it.

        That is what its adapter, and those that this began with, were trained on; of prompting, the solved
        examples in its prompt, be they the same for all rows or chosen for each; all of the train split where
        it answers from that.
        """
        found = []
        for where, dataset, only in self._places(task, result):
            known = self._known_rows(task, dataset, only)
            if only is None:
                known = self._shown(task, result, dataset, known)
            if known.exact or known.near:
                found.append(_contamination(task, result, where, known))
                self._context.progress.event(contamination_sentence(found[-1]), level="warn")
        return found

    def _places(
        self, task: Task, result: EvaluationResult
    ) -> Iterator[tuple[str, str, tuple[str, ...] | None]]:
        """Yield where a subject may have seen rows: in words, a dataset version, which of its train rows;
        None for those that its answers say were shown before each.
        """
        evaluation = result.evaluation
        if evaluation.adapter is not None:
            adapter = self._context.workspace.adapters.find(evaluation.adapter)
            for identity in dict.fromkeys(a.dataset_version for a in self._chain(adapter)):
                yield f"the train split of {identity}", identity, ()
            return
        prompt, engine = (evaluation.config.get(part) or {} for part in ("prompt", "engine"))
        dataset, shots = task.data.partition("/")[0], tuple(prompt.get("shots") or ())
        if not dataset.startswith("ds-"):
            return
        if "retrieved" in prompt:
            yield "the solved examples chosen for them", dataset, None
        elif "train" in engine:
            yield f"the train split of {dataset}, which it answers from", dataset, ()
        elif shots:
            yield "the solved examples of its prompt", dataset, shots

    def _chain(self, adapter: Adapter | None) -> Iterator[Adapter]:
        while adapter is not None:
            yield adapter
            adapter = self._context.workspace.adapters.find(adapter.start_adapter or "")

    def _shown(self, task: Task, result: EvaluationResult, dataset: str, known: KnownRows) -> KnownRows:
        """Return those of the known rows that stand among the solved examples shown before themselves."""
        train = {row.id: row for row in self._train_rows(dataset)}
        shots = {p.id: [train[shot] for shot in p.shots if shot in train] for p in result.predictions}
        wanted, threshold = {*known.exact, *known.near}, self._context.recipe.data.clean.near_threshold
        each = [known_rows([e], shots.get(e.id, ()), threshold) for e in task.examples if e.id in wanted]
        return KnownRows(
            tuple(i for one in each for i in one.exact), tuple(i for one in each for i in one.near)
        )

    def _known_rows(self, task: Task, dataset: str, given: tuple[str, ...] | None) -> KnownRows:
        only = given or ()
        place = (task.data, dataset, only)
        if place not in self._known:
            rows = self._train_rows(dataset)
            if only:
                rows = [row for row in rows if row.id in only]
            threshold = self._context.recipe.data.clean.near_threshold
            self._known[place] = known_rows(task.examples, rows, threshold)
        return self._known[place]

    def _train_rows(self, identity: str) -> list[Example]:
        if identity not in self._trained:
            workspace = self._context.workspace
            dataset = workspace.datasets.find(identity)
            there = dataset is not None and workspace.artifacts.has("datasets", identity)
            self._trained[identity] = split_of(self._context, dataset, "train") if dataset and there else None
            if not there:
                told = f"{identity} is gone: whether rows evaluated were trained on cannot be said"
                self._context.progress.event(told, level="warn")
        return self._trained[identity] or []


def known_rows(rows: Sequence[Example], others: Sequence[Example], threshold: float) -> KnownRows:
    """Return which rows have a prompt that stands among others, or nearly one.

    The system prompt does not count. Nearly means what near-duplicates mean in curation: shingles shared by
    ``threshold`` (``data.clean.near_threshold``), the same numbers and the same signs.
    """
    asked = {same_question(other) for other in others}
    exact = {row.id for row in rows if same_question(row) in asked}
    left = [row for row in rows if row.id not in exact]
    near = set()
    if left and others:
        pairs = close_to(
            [words_alone(prompt_text(o)) for o in others],
            [words_alone(prompt_text(r)) for r in left],
            threshold,
        )
        near = {
            left[second].id
            for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
            if repeats(prompt_text(others[first]), prompt_text(left[second]))
        }
    ids = [row.id for row in rows]
    return KnownRows(tuple(i for i in ids if i in exact), tuple(i for i in ids if i in near))


def _contamination(task: Task, result: EvaluationResult, where: str, known: KnownRows) -> Contamination:
    ids = {*known.exact, *known.near}
    others = [prediction for prediction in result.predictions if prediction.id not in ids]
    return Contamination(
        subject=result.evaluation.subject,
        where=where,
        rows=len(result.predictions),
        exact=len(known.exact),
        near=len(known.near),
        ids=(*known.exact, *known.near)[:_SHOWN],
        metric=result.evaluation.metrics.get(task.main_metric),
        without=main_metric_over(task, others),
    )
