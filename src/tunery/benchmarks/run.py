"""Run one benchmark on one model: lm-evaluation-harness asks and scores, our records hold what came out."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunery.benchmarks.config import BenchmarkConfig
from tunery.benchmarks.tasks import SAMPLES, LocalTask, local_task, main_metric
from tunery.core.clock import Clock, SystemClock
from tunery.core.engine import Engine
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.evaluation import Evaluation, Prediction
from tunery.core.figures import counted
from tunery.core.ids import artifact_id
from tunery.core.progress import Progress, Silent
from tunery.evaluate.metrics import mean_metric
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult
from tunery.model.tokenizer import ChatTokenizer

STAGE_VERSION = 1
"""Raise when equal inputs would give another evaluation."""
EXTRA = "benchmarks"
_OUR_NAMES = {"acc": "accuracy", "acc_norm": "accuracy.normalised"}
"""Of the harness's metrics that we have a word for."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A benchmark whose rows are at hand, or whose name the harness knows."""

    benchmark: BenchmarkConfig
    local: LocalTask | None
    harness: str
    """Version of lm-evaluation-harness, which prompts and scores may change with."""

    @property
    def data(self) -> str:
        """The rows as an evaluation names them."""
        return f"{self.benchmark.task}@{self.local.data if self.local else f'lm-eval {self.harness}'}"

    def config(self, subject: Subject) -> dict[str, Any]:
        """Return what influences the outcome, JSON-ready."""
        return {
            "benchmark": self.benchmark.task,
            "limit": self.benchmark.limit,
            "chat": self.benchmark.chat,
            "lm_eval": self.harness,
            "engine": dict(subject.engine),
        }


def prepare(benchmark: BenchmarkConfig, base_dir: Path | None = None) -> Prepared:
    """Look whether a benchmark can be run here.

    Args:
        benchmark: What to run.
        base_dir: What a relative folder of data is relative to; the working directory when None.

    Raises:
        ConfigError: lm-evaluation-harness is not installed, or the folder lacks files.
        NotFoundError: There is no such task.
    """
    try:
        harness = version("lm-eval")
    except PackageNotFoundError:
        raise ConfigError(
            f"benchmark {benchmark.task} needs lm-evaluation-harness", hint=f'pip install "tunery[{EXTRA}]"'
        ) from None
    folder = None if benchmark.data is None else (base_dir or Path()) / Path(benchmark.data).expanduser()
    local = local_task(benchmark.task, folder, limit=benchmark.limit)
    if local is None:
        from lm_eval.tasks import TaskManager

        known = TaskManager().all_tasks
        if benchmark.task not in known:
            raise NotFoundError.of("benchmark", benchmark.task, [*SAMPLES, *known], hint="lm-eval ls tasks")
    return Prepared(benchmark, local, harness)


def benchmark_id(prepared: Prepared, subject: Subject) -> str:
    """Return the id that this benchmark of ``subject`` will have, so that it need not be run twice."""
    return artifact_id(
        "eval",
        stage="benchmark",
        version=STAGE_VERSION,
        config=prepared.config(subject),
        inputs={
            "base": subject.base,
            "adapter": subject.adapter or "none",
            "data": prepared.data,
            "subject": subject.name,
        },
    )


def run_benchmark(
    engine: Engine,
    tokenizer: ChatTokenizer,
    prepared: Prepared,
    *,
    subject: Subject,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> EvaluationResult:
    """Let a subject do a benchmark; every item is a prediction, so that two models compare item by item.

    Each metric is the mean of its items, with Wilson's interval where items are right or wrong. Metrics that
    are no mean of items in 0 to 1, such as perplexities, are left out, and a warning names them.

    Raises:
        ConfigError: The task's rows cannot be had, or nothing of it is a mean of items.
    """
    from tunery.benchmarks.lm import EngineLm

    progress, clock = progress or Silent(), clock or SystemClock()
    started = time.monotonic()
    lm = EngineLm(engine, tokenizer, adapter=subject.loaded_as, progress=progress)
    found = _asked(lm, prepared)
    items = _items(found["samples"])
    names = list(dict.fromkeys(name for item in items.values() for name in item.scores))
    if not names:
        raise ConfigError(f"{prepared.benchmark.task} has no metric that is a mean of its items")
    wanted = main_metric(prepared.benchmark.task)
    main = wanted if wanted in names else names[0]
    left_out = sorted({name for item in items.values() for name in item.left_out})
    evaluation = Evaluation(
        id=benchmark_id(prepared, subject),
        subject=subject.name,
        base=subject.base,
        adapter=subject.adapter,
        data=prepared.data,
        main_metric=main,
        metrics={
            name: mean_metric(name, [i.scores[name] for i in items.values() if name in i.scores])
            for name in names
        },
        config=prepared.config(subject),
        created_at=clock.now(),
        seconds=time.monotonic() - started,
        tokens=lm.tokens,
        warnings=tuple(_warnings(lm.cut, left_out)),
    )
    for warning in evaluation.warnings:
        progress.event(f"{subject.name}: {warning}", level="warn")
    predictions = tuple(item.prediction(identity, main) for identity, item in items.items())
    return EvaluationResult(evaluation, predictions)


def _warnings(cut: int, left_out: Sequence[str]) -> Iterator[str]:
    if cut:
        yield f"{counted(cut, 'prompt')} longer than the base's window lost their beginning"
    if left_out:
        yield f"no mean of items, and left out: {', '.join(left_out)}"


def _asked(lm: Any, prepared: Prepared) -> Mapping[str, Any]:
    """Return what the harness found, every item with it."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    benchmark, local = prepared.benchmark, prepared.local
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # advice about its own command line
    try:
        with _offline(local is not None):
            found: Mapping[str, Any] = simple_evaluate(
                model=lm,
                tasks=[local.config if local else benchmark.task],
                limit=None if local else benchmark.limit,
                apply_chat_template=benchmark.chat,
                bootstrap_iters=0,  # intervals are ours
                # Reading ten thousand definitions takes seconds, and what is at hand needs none of them.
                task_manager=TaskManager(include_defaults=local is None),
                log_samples=True,
            )
    except (OSError, ConnectionError) as error:
        if local is not None:
            raise
        raise ConfigError(
            f"the rows of {benchmark.task} cannot be had from the hub ({str(error).splitlines()[0]:.200})",
            hint="run one with its rows in the package: "
            + ", ".join(SAMPLES)
            + "; or name a folder with the published files by --data",
        ) from None
    return found


@contextmanager
def _offline(wanted: object) -> Iterator[None]:
    """Keep libraries from looking for a hub while everything is at hand."""
    before = {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    if wanted:
        os.environ.update(dict.fromkeys(before, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@dataclass(slots=True)
class _Item:
    """One item of a task, its filters together."""

    answer: str
    reference: str
    scores: dict[str, float]
    left_out: set[str]

    def prediction(self, identity: str, main: str) -> Prediction:
        return Prediction(
            id=identity,
            prediction=self.answer,
            reference=self.reference,
            correct=self.scores.get(main, 0.0) >= 1.0,
            scores=self.scores,
        )


def _items(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, _Item]:
    """Return the items of all tasks that were run, by their ids."""
    found: dict[str, _Item] = {}
    for task, some in samples.items():
        filters = dict.fromkeys(sample["filter"] for sample in some)
        for sample in some:
            identity = f"{task}/{sample['doc'].get('id', sample['doc_id'])}"
            item = found.setdefault(identity, _Item(_answer(sample), str(sample["target"]), {}, set()))
            for metric in sample["metrics"]:
                name = _OUR_NAMES.get(metric, metric)
                name = f"{name}.{sample['filter']}" if len(filters) > 1 else name
                value = sample[metric]
                if _is_share(value):
                    item.scores[name] = float(value)
                else:
                    item.left_out.add(name)
    return found


def _is_share(value: object) -> bool:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever a task's metric gives
    except (TypeError, ValueError):
        return False
    return math.isfinite(number) and 0 <= number <= 1


def _answer(sample: Mapping[str, Any]) -> str:
    """Return what the model answered: the place of the likeliest choice, or its text."""
    given = sample["filtered_resps"]
    first = given[0]
    if isinstance(first, str):
        return first
    if isinstance(first, (tuple, list)) and len(given) > 1:
        return str(max(range(len(given)), key=lambda i: given[i][0]))
    return str(first)
