"""A task: the examples to answer, what counts as right, and which metrics come out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunery.core.errors import ConfigError, did_you_mean, listed
from tunery.core.example import Example, where
from tunery.core.judging import NO_MODELS, ScorerModels
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.metrics import (
    PASS_AT_K,
    PERPLEXITY,
    REPEAT_AGREEMENT,
    WIN_RATE,
    declaration_of,
    metric_names,
)
from tunery.evaluate.repeats import repeated
from tunery.evaluate.scorers import (
    DetailedScorer,
    NamesParts,
    ReferenceScorer,
    ScorerOptions,
    TaskKind,
    applies,
    make_scorer,
    scorer_names,
)
from tunery.graders.config import GRADER, asks_model
from tunery.graders.grade import problems_of
from tunery.text.answer import NotJson, read_json

_ROWS_SHOWN = 5
_OF_CONFIDENCE = ("ece", "brier", "coverage_at_error")
_PERPLEXITY_ROWS = 2
"""Rows that perplexity's interval needs [count]."""


@dataclass(frozen=True, slots=True)
class Task:
    """Everything about an evaluation that is the same for every subject; made by :func:`make_task`."""

    examples: tuple[Example, ...]
    data: str
    """Dataset version id and split, or a file's checksum."""
    config: EvaluateConfig
    main_metric: str
    metrics: tuple[str, ...]
    kind: TaskKind
    labels: tuple[str, ...] | None
    models: ScorerModels = NO_MODELS
    """Models that scorers may ask."""
    parts: tuple[str, ...] = ()
    """Metrics for parts of an answer, such as ``field_match.total``."""

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the scorers among the metrics."""
        return tuple(name for name in self.metrics if name in scorer_names())

    @property
    def main_scorer(self) -> str:
        """The scorer that says which answers are correct: the main metric's own or the one it declares."""
        return declaration_of(self.main_metric).judged_by or self.main_metric.partition(".")[0]

    @property
    def scorer_options(self) -> ScorerOptions:
        """What scorers need to know."""
        references = tuple(e.reference for e in self.examples)
        config = self.config
        return ScorerOptions(
            labels=self.labels,
            json_schema=config.json_schema,
            fields=config.fields,
            models=self.models,
            references=references,
            judge=config.judge,
            bleu_tokenizer=config.bleu_tokenizer,
            pattern=config.pattern,
            max_error=config.max_error,
            sql_schema=config.sql_schema,
            graders=config.graders,
            main_part=self.main_metric.partition(".")[2],
        )

    @property
    def asks_judge(self) -> bool:
        """Whether a scorer needs the judging model."""
        judged = any("judge" in declaration_of(name).needs for name in self.scorers)
        return judged or asks_model(self.config.graders)

    def check_metric(self, name: str, *, what: str) -> None:
        """Refuse a metric that evaluating this task will not give; ``what`` is the setting that names it.

        Raises:
            ConfigError: Says what there will be.
        """
        known = (*self.metrics, *self.parts)
        if name not in known:
            raise ConfigError(
                f"{what}: {name!r} is not measured here{did_you_mean(name, known)} "
                f"(measured: {', '.join(known)})",
                param=what,
            )


def make_task(  # noqa: PLR0913 - each is settled by somebody else
    examples: Sequence[Example],
    *,
    data: str,
    config: EvaluateConfig,
    main_metric: str,
    labels: Sequence[str] | None = None,
    models: ScorerModels = NO_MODELS,
    also: Sequence[str] = (),
) -> Task:
    """Settle what is measured on these examples, before anything is computed.

    Args:
        examples: The test split, or another file's rows.
        data: Dataset version id and split (``ds-…/test``) or a file's checksum.
        main_metric: The goal's metric; added to the metrics where the settings leave it out.
        labels: The closed label set, if the outputs are one.
        models: Models that scorers may ask.
        also: Further metrics that somebody looks at, such as those of a gate's rules.

    Raises:
        ConfigError: There are no examples, or a metric does not fit the data.
    """
    if not examples:
        raise ConfigError(f"{data}: no examples to evaluate on", hint="give the test split more rows")
    kind = _kind(examples, labels)
    pairs = any(e.rejected is not None for e in examples)
    auto = (
        n
        for n in metric_names()
        if kind in (one := declaration_of(n)).auto and ("pairs" not in one.needs or pairs)
    )
    chosen = (*(auto if config.metrics == "auto" else config.metrics), *((GRADER,) if config.graders else ()))
    task = Task(
        examples=tuple(
            repeated(
                draw_stratified(_with_unique_ids(examples), config.limit, seed=config.seed), config.repeats
            )
        ),
        data=data,
        config=config,
        main_metric=main_metric,
        metrics=tuple(
            dict.fromkeys(
                (
                    *chosen,
                    main_metric.partition(".")[0],
                    *(name.partition(".")[0] for name in also),
                    *(_OF_CONFIDENCE if config.confidence else ()),
                    *((PASS_AT_K, REPEAT_AGREEMENT) if config.repeats > 1 else ()),
                )
            )
        ),
        kind=kind,
        labels=tuple(labels) if labels else None,
        models=models,
    )
    _check_needs(task, examples)
    _check_references(task)
    task = replace(_with_rows_for_perplexity(task), parts=_parts(task))
    task.check_metric(main_metric, what="goal.metric")
    return task


def _kind(examples: Sequence[Example], labels: Sequence[str] | None) -> TaskKind:
    """Return ``labels`` for a closed set, ``json`` where every reference is an object, else ``text``."""
    if labels:
        return "labels"
    return "json" if all(isinstance(_json(e.reference), dict) for e in examples) else "text"


def draw_stratified(examples: Sequence[Example], limit: int | None, *, seed: int) -> list[Example]:
    """Draw at most ``limit`` examples so that classes keep their shares as nearly as whole rows allow.

    Each class is shuffled by ``seed`` and its rows are spread evenly over [0, 1); the ``limit`` lowest are
    taken, so that a smaller draw is always part of a larger one. The order of ``examples`` does not matter
    for what is drawn and is kept in what is returned.

    Args:
        examples: What to draw from.
        limit: Rows at most [count]; None for all.
        seed: Same seed and rows, same draw.
    """
    if limit is None or limit >= len(examples):
        return list(examples)
    generator = random.Random(seed)  # noqa: S311 - a reproducible draw, not a secret
    places: list[tuple[float, str]] = []
    for rows in by_class(examples).values():
        generator.shuffle(rows)
        offset = generator.random()
        places += [((i + offset) / len(rows), row.id) for i, row in enumerate(rows)]
    drawn = {identity for _, identity in sorted(places)[:limit]}
    return [e for e in examples if e.id in drawn]


def by_class(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Return the examples of each label, labels in order and ids within each; those of none under ``""``."""
    ordered = sorted(examples, key=lambda e: (e.label or "", e.id))
    return {label: list(rows) for label, rows in itertools.groupby(ordered, key=lambda e: e.label or "")}


def _with_unique_ids(examples: Sequence[Example]) -> list[Example]:
    """Tell equal rows of an uncleaned file apart as ``id``, ``id#2``, …, because predictions go by id."""
    seen: dict[str, int] = {}
    unique = []
    for example in examples:
        seen[example.id] = count = seen.get(example.id, 0) + 1
        unique.append(example if count == 1 else example.with_(id=f"{example.id}#{count}"))
    return unique


def _check_needs(task: Task, examples: Sequence[Example]) -> None:
    """Refuse metrics that need what the task lacks; lists every problem."""
    needing = {name: declaration_of(name).needs for name in task.metrics if name in metric_names()}
    problems = []
    for name, needs in needing.items():
        if "labels" in needs and not task.labels:
            problems.append(f"{name} needs a closed label set, and the outputs of this data are none")
        if "encoder" in needs and task.models.encoder is None:
            problems.append(f"{name} needs an embedding model, and this evaluation has none")
        if "confidence" in declaration_of(name).scores and not task.config.confidence:
            problems.append(f"{name} needs evaluate.confidence: true")
        if {"price", "canaries"} & {*needs}:
            problems.append(f"{name} is a gate's, and no metric of answers")
        if "repeats" in needs and task.config.repeats == 1:
            problems.append(f"{name} needs evaluate.repeats above 1")
        if "pairs" in needs and all(e.rejected is None for e in examples):
            problems.append(f"{name} needs preference pairs, and no row has a rejected answer")
        if "graders" in needs and not task.config.graders:
            problems.append(f"{name} needs graders: set evaluate.graders")
        if "judge" in needs and task.models.judge is None:
            problems.append(f"{name} needs a model that judges: set evaluate.judge.base_url and .model")
    if task.main_metric == WIN_RATE:
        problems.append(
            f"{WIN_RATE} compares with the best baseline by another metric: set goal.metric to it"
        )
    if names := [name for name, needs in needing.items() if "json" in needs]:
        problems += _json_problems(names, task, examples)
    problems += problems_of(task.config.graders, task.examples, task.models)
    if not problems:
        judging = ((name, make_scorer(name, task.scorer_options)) for name in task.scorers)
        problems += [
            f"{name} judges none of these rows: their metadata says that they are for something else"
            for name, scorer in judging
            if not any(applies(scorer, e) for e in task.examples)
        ]
    if problems:
        raise ConfigError.of_problems("evaluate", problems)


def _check_references(task: Task) -> None:
    """Refuse rows that no answer could be right on.

    Raises:
        ConfigError: Lists them.
    """
    problems: list[str] = []
    for name in dict.fromkeys((*task.scorers, task.main_scorer)):
        scorer = make_scorer(name, task.scorer_options) if name in scorer_names() else None
        if isinstance(scorer, ReferenceScorer):
            found = ((e, scorer.problem(e)) for e in task.examples)
            problems += [f"{name}: {where(e)}: {problem}" for e, problem in found if problem is not None]
    if problems:
        raise ConfigError.of_problems("evaluate", problems, limit=20)


def _with_rows_for_perplexity(task: Task) -> Task:
    """Leave perplexity out where a single row is measured: no interval can be given of it.

    Raises:
        ConfigError: It is what decides.
    """
    if PERPLEXITY not in task.metrics or len(task.examples) >= _PERPLEXITY_ROWS:
        return task
    if task.main_metric == PERPLEXITY:
        raise ConfigError(
            f"goal.metric: perplexity needs {_PERPLEXITY_ROWS} test rows at least, and {task.data} has "
            f"{len(task.examples)}",
            hint="give the test split more rows (data.split.test), or take another goal.metric",
            param="goal.metric",
        )
    return replace(task, metrics=tuple(name for name in task.metrics if name != PERPLEXITY))


def _json_problems(names: Sequence[str], task: Task, examples: Sequence[Example]) -> list[str]:
    objects = [(e, _json(e.reference)) for e in examples]
    bad = [e for e, value in objects if not isinstance(value, dict)]
    if bad:
        rows = listed([where(e) for e in bad], _ROWS_SHOWN)
        verb = "needs" if len(names) == 1 else "need"
        return [f"{' and '.join(names)} {verb} JSON objects as references; {len(bad)} are none: {rows}"]
    known = {key for _, value in objects for key in value}
    return [f"field {f!r} is in no reference" for f in task.config.fields or () if f not in known]


def _parts(task: Task) -> tuple[str, ...]:
    """Return the parts that scorers will judge, found by showing them the references as answers."""
    found: dict[str, None] = {}
    for name in task.scorers:
        scorer = make_scorer(name, task.scorer_options)
        if isinstance(scorer, NamesParts):
            found.update(dict.fromkeys(f"{name}.{part}" for part in scorer.part_names))
        elif isinstance(scorer, DetailedScorer):
            for example in (e for e in task.examples if applies(scorer, e)):
                parts = scorer.parts(example.reference, example)
                found.update(dict.fromkeys(f"{name}.{part}" for part in parts))
    return tuple(found)


def _json(text: str) -> Any:
    try:
        return read_json(text)
    except NotJson:
        return None
