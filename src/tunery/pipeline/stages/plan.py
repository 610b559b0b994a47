"""A recipe's forecast: its rows counted and rendered, its base measured, the machine timed for a moment."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.figures import counted, duration, size
from tunery.core.free_memory import free_memory_bytes
from tunery.core.run import CHAMPION, START, TUNED
from tunery.evaluate.metrics import PREFERENCE_ACCURACY
from tunery.evaluate.prompting import Prompting, prompt_lengths
from tunery.evaluate.task import Task
from tunery.model.shape import BaseShape, read_shape
from tunery.model.token_tree import computed_tokens
from tunery.pipeline.context import RunContext
from tunery.pipeline.stages.data import answers_to_reach, split_of, tokenizer_of
from tunery.pipeline.stages.planned import Planned, keep_planned
from tunery.pipeline.stages.preflight import training_limit
from tunery.pipeline.stages.settle import Settled, settle
from tunery.pipeline.stages.suites import planned_suites
from tunery.pipeline.stages.train import adapter_id, dataset_to_train_on, training_splits, trainings
from tunery.plan.forecast import (
    LIBRARIES_BYTES,
    Forecast,
    PlannedSubject,
    RowCounts,
    Schedule,
    forecast,
    suites_s,
)
from tunery.plan.machine import Machine, cpu_flops, free_disk_bytes
from tunery.train.budget import SMOKE_MOST_S, SMOKE_PASSES, fitted, smoke_rows, training_of
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRow, TrainingRows, forwards_of, validation_rows
from tunery.train.order import shuffled
from tunery.train.section import method_of

_COUNTED_STEPS = 64
"""Steps whose computed tokens are counted [count]."""
_RUNS = 200
"""Newest runs in which trainings of a recipe are looked for [count]."""
_LEARNT_FROM = 5
"""Trainings that the next one's time is expected by, at most [count]."""
_PROBES = 3
"""Test rows that the length of a baseline's own words is measured on [rows]."""


def plan_recipe(context: RunContext) -> Forecast:
    """Forecast a recipe's run on this machine.

    Builds the dataset version, which the run then finds and does not build again; computes nothing else.

    Raises:
        ConfigError: The recipe, a file or a row is wrong.
    """
    dataset = dataset_to_train_on(context)
    shape = read_shape(Path(context.base.path), parameters=context.base.parameters)
    with context.progress.task("timing this machine", None):
        machine = measure(context)
    with context.progress.task("counting tokens", None):
        settled = settle(context, dataset)
        subjects = _subjects(context, dataset, settled)
        in_order, counts, few = [], [], []
        for config in trainings(context.recipe.train):
            splits = training_splits(context, dataset, config).rows
            free = max(0, machine.free_memory_bytes - LIBRARIES_BYTES)
            config = fitted(config, shape, splits.train, free=free, device_type=machine.device, loaded=False)
            in_order.append(config)
            counts.append(_count(context, dataset, config, splits))
            few.append(len(smoke_rows(splits.train, config)))
    suites = planned_suites(context, dataset, {**settled.suites, **settled.begun})
    schedules = [
        _schedule(context, config, rows, subjects, shape, machine, smoke)
        for config, rows, smoke in zip(in_order, counts, few, strict=True)
    ]
    schedules[-1] = schedules[-1].with_(suites=suites)
    *earlier, own = (
        forecast(rows, schedule, shape, machine) for rows, schedule in zip(counts, schedules, strict=True)
    )
    if speeds := _speeds_before(context, in_order[-1]):
        own = own.learnt(median(speeds), len(speeds))
    for config, found in zip(trainings(context.recipe.train), (*earlier, own), strict=True):
        foretold = Planned(training_s=found.training_s, memory_bytes=found.memory_bytes)
        keep_planned(context.workspace, adapter_id(context, dataset, config), foretold)
    own = own.with_(power=settled.power, warnings=(*own.warnings, *settled.undecidable))
    if not own.has_memory:
        way = _way_to_fit(context, in_order[-1], counts[-1], subjects, shape, machine)
        own = own.with_(warnings=(*own.warnings, *([way] if way else [])))
    for config, before in zip(in_order, earlier, strict=False):
        own = own.after(before, method_of(config).title)
    return own


def suites_sentence(context: RunContext, dataset: DatasetVersion, suites: Mapping[str, Task]) -> str | None:
    """Return how long the suites will take on this machine; None where there are none."""
    if not suites:
        return None
    planned = planned_suites(context, dataset, suites)
    shape = read_shape(Path(context.base.path), parameters=context.base.parameters)
    took = suites_s(planned, shape, measure(context))
    each = ", ".join(
        f"{s.name} ({counted(s.rows, 'row')}{'' if s.models > 1 else ', the tuned model alone'}) "
        f"{duration(took[s.name])}"
        for s in planned
    )
    return f"suites will take about {duration(sum(took.values()))}: {each}"


def _way_to_fit(
    context: RunContext,
    config: TrainConfig,
    rows: RowCounts,
    subjects: tuple[PlannedSubject, ...],
    shape: BaseShape,
    machine: Machine,
) -> str | None:
    """Return the first change of what is held in memory with which a training would fit, if there is one.

    Its settings are all that have to be changed, so that the command that names them is not refused.
    """
    again, lora = "train.gradient_checkpointing=true", "train.adapter=lora"
    # Left to auto, activations are computed again by themselves where that is needed.
    kept = context.recipe.train.gradient_checkpointing is False
    full: dict[str, Any] = {}
    if config.adapter == "none":
        full = {"adapter": "lora", "rank": TrainConfig.model_fields["rank"].default}
    ways: list[tuple[list[str], dict[str, Any]]] = [([again], {})]
    if full:
        ways.append(([lora], full))
    if config.sharding == "none":  # weights of four bits are not divided
        nf4 = "train.quantization=nf4"
        ways.append(([lora, nf4] if full else [nf4], {**full, "quantization": "nf4"}))
    for settings, change in ways:
        words = " ".join([*settings, *([again] if kept and change else [])])
        other = config.model_copy(update={**change, "gradient_checkpointing": True})
        found = forecast(rows, _schedule(context, other, rows, subjects, shape, machine, 0), shape, machine)
        if found.has_memory:
            return f"with {words} it would take about {size(found.memory_bytes)}"
    return None


def _speeds_before(context: RunContext, config: TrainConfig) -> list[float]:
    """Return the trained-on tokens a second of the recipe's newest trainings that were like this one."""
    alike = ("method", "adapter", "quantization", "rank", "device", "start_from")
    now = config.model_dump(mode="json", include=set(alike))
    seen: dict[str, float] = {}
    for run in context.workspace.runs.list(_RUNS, name=context.recipe.name):
        adapter = context.workspace.adapters.find(run.adapter_id) if run.adapter_id else None
        if adapter is None or adapter.seconds <= 0:
            continue
        if adapter.base.sha256 == context.base.sha256 and {n: adapter.config.get(n) for n in alike} == now:
            seen.setdefault(adapter.id, adapter.trained_tokens / adapter.seconds)
    return list(seen.values())[:_LEARNT_FROM]


def _schedule(  # noqa: PLR0913 - what a schedule follows from
    context: RunContext,
    config: TrainConfig,
    rows: RowCounts,
    subjects: tuple[PlannedSubject, ...],
    shape: BaseShape,
    machine: Machine,
    smoke: int,
) -> Schedule:
    steps = config.total_steps(rows.train_rows)
    validations = math.ceil(steps / config.steps_between_validations(steps))
    training = training_of(config, shape, machine.device)
    return Schedule(
        epochs=config.epochs,
        batch_size=config.batch_size,
        rank=config.rank,
        adapter_parameters=training.trained,
        validations=validations if rows.validation_rows else 0,
        subjects=subjects,
        max_new_tokens=context.recipe.evaluate.max_new_tokens,
        cache_bytes=context.engine_settings.cache_bytes,
        weight_bytes=training.weight_bytes,
        kind=training.kind,
        quantized=training.quantized,
        checkpointing=training.checkpointing,
        reference_passes=int(method_of(config).needs_reference),
        merged=shape.parameters if config.merge and config.adapter != "none" else 0,
        smoke_passes=SMOKE_PASSES * smoke / max(rows.train_rows, 1),
        smoke_most_s=SMOKE_MOST_S,
        kept_checkpoints=config.kept_checkpoints(steps),
        answered_rows=min(config.generate_rows or 0, rows.validation_rows),
    )


def measure(context: RunContext) -> Machine:
    """Time the device that training would use, and look at what is free on it."""
    from tunery.model.device import choose_training_device

    device = choose_training_device(context.recipe.train.device)
    disk = free_disk_bytes(context.workspace.root)
    if device.type == "cuda":
        import torch

        flops, memory = _gpu_flops(device.index or 0), torch.cuda.mem_get_info(device)[0]
    else:
        flops, memory = cpu_flops(), free_memory_bytes()
    kind = "cuda" if device.type == "cuda" else "cpu"
    return Machine(device=kind, flops=flops, free_memory_bytes=memory, free_disk_bytes=disk)


def _gpu_flops(index: int, *, size: int = 4096, seconds: float = 0.2) -> float:
    """Multiply bf16 matrices for a moment and return the best speed seen [FLOP/s]."""
    import torch

    a = torch.ones((size, size), dtype=torch.bfloat16, device=f"cuda:{index}")
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        torch.cuda.synchronize(index)
        started = time.perf_counter()
        torch.matmul(a, a)
        torch.cuda.synchronize(index)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _count(
    context: RunContext, dataset: DatasetVersion, config: TrainConfig, splits: TrainingRows
) -> RowCounts:
    tokenizer = tokenizer_of(context, dataset)
    train, validation = splits
    answers = [row.sequences[0] for row in train]
    sequences = [sequence for row in (*train, *validation) for sequence in row.sequences]
    test = answers_to_reach(split_of(context, dataset, "test"))
    limit = context.recipe.evaluate.limit
    prompts = prompt_lengths(tokenizer, Prompting(), test[:limit])
    max_tokens = training_limit(context, tokenizer)
    over = sum(len(s.ids) > max_tokens for s in sequences)
    folder = context.workspace.artifacts.path("datasets", dataset.id)
    return RowCounts(
        train_rows=len(train),
        validation_rows=len(validation),
        test_rows=len(test[:limit]),
        train_tokens=sum(r.tokens for r in train),
        supervised_tokens=sum(r.loss_tokens for r in train),
        validation_tokens=sum(r.tokens for r in validation),
        **computed(train, validation, config),
        validation_supervised_tokens=sum(r.loss_tokens for r in validation),
        test_prompt_tokens=sum(prompts.values()),
        answer_tokens=sum(len(a.ids) - a.prompt_tokens for a in answers) / max(len(answers), 1),
        shared_prefix=_shared_prefix(s.ids for row in train for s in row.sequences),
        longest=max((r.tokens for r in (*train, *validation)), default=0),
        too_long_rows=over + dataset.dropped.get("too_long", 0),
        max_tokens=max_tokens,
        dataset_bytes=sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
    )


def computed(
    train: Sequence[TrainingRow], validation: Sequence[TrainingRow], config: TrainConfig
) -> dict[str, int]:
    """Count what training computes, in forwards that are divided as training divides them.

    Which rows a step holds is drawn anew; so many steps are counted, and the others are taken to be alike.
    """
    if method_of(config).shuffles_prompts:
        order = shuffled(train, seed=config.seed, epoch=0)
    else:
        order = random.Random(config.seed).sample(range(len(train)), len(train))  # noqa: S311 - no secret
    some = order[: _COUNTED_STEPS * config.batch_size]
    batches = [
        [train[i] for i in some[at : at + config.batch_size]] for at in range(0, len(some), config.batch_size)
    ]
    each = [size for batch in batches for size in _sizes(batch, config)]
    whole = sum(row.tokens for row in train) / max(sum(train[i].tokens for i in some), 1)
    return {
        "computed_tokens": round(whole * sum(size.tokens for size in each)),
        "measured_tokens": round(whole * sum(size.measured for size in each)),
        "forward_tokens": max(size.tokens for size in each),
        "forward_rows": max(size.rows for size in each),
        "validation_computed_tokens": sum(
            size.tokens + size.measured for size in _sizes(validation, config, validation_rows(config))
        ),
    }


class _Size(NamedTuple):
    rows: int
    tokens: int
    measured: int
    """Of sequences that are computed without a gradient."""


def _sizes(rows: Sequence[TrainingRow], config: TrainConfig, most_rows: int | None = None) -> list[_Size]:
    """Return the rows and the computed tokens of each forward [count]."""
    return [
        _Size(
            len(some),
            computed_tokens([s.ids for i in some for s in rows[i].sequences]),
            computed_tokens([s.ids for i in some for s in rows[i].beside]),
        )
        for some in forwards_of(rows, config, most_rows=most_rows)
    ]


def _shared_prefix(sequences: Iterable[tuple[int, ...]]) -> int:
    """Return how many leading tokens all sequences share [count]."""
    ids = list(sequences)
    # Whatever the smallest and the largest row share, all between them share.
    pairs = zip(min(ids), max(ids), strict=False) if len(ids) > 1 else ()
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _mean(lengths: Mapping[str, int]) -> int:
    return round(sum(lengths.values()) / max(len(lengths), 1))


def _typical(prompting: Prompting) -> Prompting:
    """Return prompts of the same length, without looking for the examples nearest to each question."""
    if prompting.retriever is None:
        return prompting
    return replace(prompting, retriever=None, shots=prompting.retriever.some())


def _subjects(context: RunContext, dataset: DatasetVersion, settled: Settled) -> tuple[PlannedSubject, ...]:
    """Return what will be evaluated, with the length of the prompt each really gets."""
    tokenizer, task = tokenizer_of(context, dataset), settled.task
    plain = _mean(prompt_lengths(tokenizer, Prompting(), task.examples[:_PROBES]))
    limit = context.recipe.evaluate.perplexity_limit
    scored = min(limit or len(task.examples), len(task.examples)) if "perplexity" in task.metrics else 0
    if PREFERENCE_ACCURACY in task.metrics:  # both answers of every pair, one of some of them for perplexity
        scored = max(scored, 2 * len(task.examples))
    baselines = []
    for subject in settled.baselines:
        asked = _typical(subject.prompting)
        added = _mean(prompt_lengths(tokenizer, asked, task.examples[:_PROBES])) - plain
        without = _mean(prompt_lengths(tokenizer, replace(asked, shots=()), task.examples[:_PROBES])) - plain
        baselines.append(
            PlannedSubject(
                name=subject.name,
                added_tokens=max(0, added),
                own_tokens=max(0, added - without) if subject.prompting.retriever else 0,
                free=subject.prompting.constraint is None,
                perplexity_rows=scored if subject.perplexity else 0,
            )
        )
    has_champion = CHAMPION in context.workspace.models.aliases(context.recipe.name)
    chained = context.recipe.train.start_from is not None
    tuned = [TUNED, *([START] if chained else []), *([CHAMPION] if has_champion else [])]
    return (
        *baselines,
        *(PlannedSubject(name=name, added_tokens=0, free=False, perplexity_rows=scored) for name in tuned),
    )
