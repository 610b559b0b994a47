"""Forecast: from counts and a base's shape to the memory, time and disk that a run will take.

Time is arithmetic divided by the machine's speed. A token costs two operations per weight forward. Backward
costs as much again for the gradient of the activations, and another two only where a weight is trained; so
LoRA on a frozen trunk of ``W`` weights takes ``4 W`` a token, and ``6`` for each of the few weights it adds;
full fine-tuning takes ``6 W``. Activations that are computed again cost another forward. The output layer
runs for supervised tokens alone: ``4 V h`` for each. Attention adds ``12 L a`` for each pair of tokens in a
row (``4 L a`` forward). Rows of a batch share their common beginning, which is computed once.

Source:
    Kaplan et al. (2020), arXiv 2001.08361, section 2.1 and table 1, for the operations of each part; the
    frozen-weight saving and the shared prefix are counted as this code computes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tunery.core.config import Record
from tunery.core.figures import counted, duration, percent, size
from tunery.model.memory import (
    Training,
    bytes_a_supervised_token,
    bytes_a_token,
    frozen_bytes,
    state_bytes,
)
from tunery.model.shape import BaseShape
from tunery.plan.disk import CHECKPOINTS, training_disk
from tunery.plan.machine import Machine

TRAINING_SHARE = {"cpu": 0.5, "cuda": 0.25}
"""Share of the matrix product's speed that training reaches; the rest goes to norms, rotations, softmax and
small batches. On a CPU the median of twelve steps of 135M parameters, batches of about 380 computed tokens,
each timed beside the product itself; on a GPU a careful guess."""
GENERATION_SHARE = {"cpu": 0.55, "cuda": 0.05}
"""The same for answering with 32 rows at a time; on a GPU, which then waits for its memory, a guess."""
START_S = 12.0
"""Loading libraries and weights, once for training and once for each engine [s]."""
OPEN_S = 2.0
"""Opening an engine beside a training, for answers to validation rows [s]."""
LIBRARIES_BYTES = 540 * 2**20
"""PyTorch and transformers in memory [bytes]."""
_FLOAT = 4
_ANSWER_BYTES = 1_500
"""One stored answer with its scores [bytes]."""


class RowCounts(Record):
    """Rows and tokens of a recipe's data, rendered as training sees them."""

    train_rows: int
    validation_rows: int
    test_rows: int
    train_tokens: int
    """Tokens of all train rows [count]."""
    computed_tokens: int
    """Of those, tokens that a pass computes: what rows of a forward begin with is computed once [count]."""
    forward_tokens: int
    """Tokens computed in the largest forward [count]."""
    forward_rows: int
    """Rows of the forward with most rows [count]."""
    supervised_tokens: int
    """Of those, tokens in the loss [count]."""
    measured_tokens: int = 0
    """Tokens that a pass computes besides without a gradient, of answers that a step is compared with
    [count]."""
    validation_tokens: int
    """Tokens of all validation rows [count]."""
    validation_computed_tokens: int
    """Of those, tokens that a validation computes [count]."""
    validation_supervised_tokens: int
    test_prompt_tokens: int
    """Prompts of the test rows as the tuned model gets them [count]."""
    answer_tokens: float
    """Mean tokens of a reference answer, stop token included [count]."""
    shared_prefix: int
    """Tokens that every row begins with [count]."""
    longest: int
    """Tokens of the longest row [count]."""
    too_long_rows: int
    """Rows over the longest length allowed: dropped, or reason for preflight to stop [count]."""
    max_tokens: int
    """That length [tokens]."""
    dataset_bytes: int
    """What the dataset version takes on disk [bytes]."""


class PlannedSubject(Record):
    """One subject of the evaluation: baseline, champion or tuned model."""

    name: str
    added_tokens: int
    """Tokens that its prompt has beyond that of the tuned model: instructions, solved examples [count]."""
    own_tokens: int = 0
    """Of those, tokens that are another question's no more: examples chosen for each question [count]."""
    free: bool
    """Whether its answers are neither learned nor held to the labels; then they often run to the limit."""
    perplexity_rows: int
    """Rows that it gives a likelihood for, too [count]."""


class PlannedSuite(Record):
    """One named suite, which base and tuned model answer alike."""

    name: str
    rows: int
    prompt_tokens: int
    """Of all rows with the choices that they offer; what several begin with is computed once [count]."""
    answer_tokens: int
    """Written at most, of all rows [count]."""
    models: int
    """Who answers: 2, or 1 where the base's answers are kept from an earlier run, or not wanted [count]."""


class Schedule(Record):
    """What will be done with the rows."""

    epochs: float
    batch_size: int
    rank: int
    adapter_parameters: int
    validations: int
    """Times that the validation loss is measured [count]."""
    subjects: tuple[PlannedSubject, ...]
    """Everyone who is evaluated."""
    max_new_tokens: int
    """Tokens that an answer may have [count]."""
    cache_bytes: int
    """Most that the serving engine keeps for prompts [bytes]."""
    weight_bytes: int
    """Of one frozen weight or activation: 4 in fp32, 2 in bf16 [bytes]."""
    kind: str = "lora"
    """What ``train.adapter`` says."""
    quantized: bool = False
    """Whether the base's linear layers are held in four bits while it is trained on."""
    checkpointing: bool = False
    """Whether activations are computed again going backward."""
    reference_passes: int = 0
    """Passes over all rows without a gradient, before the first step [count]."""
    merged: int = 0
    """Weights of the model that the adapter is merged into; 0 where it is not [count]."""
    smoke_passes: float = 0.0
    """Passes over the train rows that the smoke run's steps amount to."""
    smoke_most_s: float = 0.0
    """Time after which a smoke run is cut short [s]."""
    answered_rows: int = 0
    """Validation rows that are answered at each validation [count]."""
    kept_checkpoints: int = 0
    """Checkpoints whose adapters stay [count]."""
    suites: tuple[PlannedSuite, ...] = ()
    """What base and tuned model answer beside the test split."""

    @property
    def training(self) -> Training:
        """What is trained and how it is held."""
        return Training(
            self.kind,
            self.rank,
            self.adapter_parameters,
            self.weight_bytes,
            self.quantized,
            self.checkpointing,
        )


class Estimate(Record):
    """One number with its reasoning."""

    what: str
    """Such as ``training time``."""
    value: float
    unit: str
    """``s``, ``bytes``, ``count`` or ``price``."""
    because: str
    """How it comes about, in one line."""


class Forecast(Record):
    """What a run will take on this machine."""

    rows: RowCounts
    machine: Machine
    steps: int
    """Optimizer steps, early stopping left aside [count]."""
    epochs: float = 1.0
    """Passes over the train split."""
    computed_tokens: int
    """Tokens computed in one pass over the train split, shared beginnings once a batch [count]."""
    training_s: float
    evaluation_s: float
    total_s: float
    memory_bytes: int
    """At the highest point."""
    disk_bytes: int
    adapter_bytes: int = 0
    """Of that, what stays when training has ended [bytes]."""
    estimates: tuple[Estimate, ...]
    """The numbers above and their parts, each with its reasoning."""
    power: str | None = None
    """What gain the test split can show, and how many rows would show a smaller one."""
    warnings: tuple[str, ...]
    """What will not fit, or be cut, or wait."""

    def learnt(self, tokens_per_s: float, trainings: int) -> Forecast:
        """Return the forecast with the training time that earlier trainings of the recipe let expect.

        Args:
            tokens_per_s: Trained-on tokens a second of those, epochs counted.
            trainings: How many they were [count].
        """
        arithmetic = self.estimates[0]
        tokens = self.rows.train_tokens * self.epochs
        expected = arithmetic.with_(
            value=tokens / tokens_per_s,
            because=f"{tokens:,.0f} tokens at the {tokens_per_s:,.0f} a second of "
            f"{counted(trainings, 'earlier training')} of this recipe; by arithmetic "
            f"{duration(arithmetic.value)}: {arithmetic.because}",
        )
        return self.with_(
            training_s=expected.value,
            total_s=self.total_s - self.training_s + expected.value,
            estimates=(expected, *self.estimates[1:]),
        )

    def priced(self, an_hour: float) -> Forecast:
        """Return the forecast with what its time costs, by the price of an hour of this machine."""
        cost = Estimate(
            what="cost",
            value=self.total_s / 3600 * an_hour,
            unit="price",
            because=f"{duration(self.total_s)} at {an_hour:,.2f} an hour",
        )
        return self.with_(estimates=(*self.estimates, cost))

    @property
    def has_memory(self) -> bool:
        """Whether memory suffices, as far as it is known."""
        free = self.machine.free_memory_bytes
        return not free or self.memory_bytes <= free

    @property
    def fits(self) -> bool:
        """Whether memory and disk suffice, as far as they are known."""
        return self.has_memory and self.disk_bytes <= self.machine.free_disk_bytes

    def after(self, earlier: Forecast, method: str) -> Forecast:
        """Return the forecast of both trainings, one after the other; rows and steps stay the later one's.

        Args:
            earlier: Of the training before.
            method: What that one is.
        """
        training = next(e for e in earlier.estimates if e.what == "training time")
        both = self.with_(
            training_s=self.training_s + earlier.training_s,
            total_s=self.total_s + earlier.training_s + START_S,
            memory_bytes=max(self.memory_bytes, earlier.memory_bytes),
            # Of the earlier one nothing but its adapter is left once it has ended.
            disk_bytes=max(earlier.disk_bytes, self.disk_bytes + earlier.adapter_bytes),
            estimates=(training.with_(what=f"before it: {method}"), *self.estimates),
        )
        others = [w for w in self.warnings if w not in _warnings(self)]
        return both.with_(warnings=(*_warnings(both), *others))


def forecast(rows: RowCounts, schedule: Schedule, shape: BaseShape, machine: Machine) -> Forecast:
    """Forecast a run; computes nothing but this arithmetic.

    Returns:
        Numbers with their reasoning: good to about a factor of two in time, and to 15 % in memory for what
        ``benchmarks/plan_memory.py`` measures.
    """
    training = _training_time(rows, schedule, shape, machine)
    evaluation = _evaluation_time(rows, schedule, shape, machine)
    suites = _suites_time(schedule, shape, machine)
    others = (*suites, *_smoke_time(rows, schedule, shape, machine))
    memory = _memory(rows, schedule, shape)
    disk = _disk(rows, schedule)
    found = Forecast(
        rows=rows,
        machine=machine,
        steps=_steps(rows, schedule),
        epochs=schedule.epochs,
        computed_tokens=rows.computed_tokens,
        training_s=training.value,
        evaluation_s=evaluation.value + sum(s.value for s in suites),
        total_s=training.value + evaluation.value + sum(e.value for e in others) + 2 * START_S,
        memory_bytes=round(memory.value),
        disk_bytes=round(disk.value),
        adapter_bytes=training_disk(schedule.adapter_parameters, row_steps=0, merged=schedule.merged).adapter,
        estimates=(training, evaluation, memory, disk, *others),
        warnings=(),
    )
    return found.with_(warnings=_warnings(found))


def _training_time(rows: RowCounts, schedule: Schedule, shape: BaseShape, machine: Machine) -> Estimate:
    flops, speed = _training_flops(rows, schedule, shape), _speed(machine, TRAINING_SHARE)
    answered = schedule.answered_rows * schedule.validations
    answering = _answer_s(rows, schedule, shape, machine) * answered
    if answered:
        answering += OPEN_S * schedule.validations
    return Estimate(
        what="training time",
        value=flops / speed + answering,
        unit="s",
        because=f"{_steps(rows, schedule):,} steps over {rows.train_tokens * schedule.epochs:,.0f} tokens "
        f"({rows.computed_tokens:,} computed a pass; {_saved(rows)} of its {rows.train_tokens:,} saved by "
        "computing shared beginnings once a forward), "
        f"{_tflop(flops)} at {_tflop(speed)}/s"
        + (f"; {counted(answered, 'answer')} to validation rows {duration(answering)}" if answered else ""),
    )


def _answer_s(rows: RowCounts, schedule: Schedule, shape: BaseShape, machine: Machine) -> float:
    """Return how long the model in training takes for an answer [s]."""
    own = PlannedSubject(name="", added_tokens=0, free=False, perplexity_rows=0)
    flops = _answering_flops(rows, schedule, shape, own)
    return flops / _speed(machine, GENERATION_SHARE) / max(rows.test_rows, 1)


def _smoke_time(
    rows: RowCounts, schedule: Schedule, shape: BaseShape, machine: Machine
) -> tuple[Estimate, ...]:
    """Return how long the smoke run takes, where there is one."""
    if not schedule.smoke_passes:
        return ()
    flops = schedule.smoke_passes * _pass_flops(rows, schedule, shape)
    found = flops / _speed(machine, TRAINING_SHARE)
    return (
        Estimate(
            what="smoke run",
            value=min(found, schedule.smoke_most_s),
            unit="s",
            because=f"{_tflop(flops)}, {duration(schedule.smoke_most_s)} at most",
        ),
    )


def _evaluation_time(rows: RowCounts, schedule: Schedule, shape: BaseShape, machine: Machine) -> Estimate:
    by_subject = {
        subject.name: _answering_flops(rows, schedule, shape, subject) / _speed(machine, GENERATION_SHARE)
        for subject in schedule.subjects
    }
    return Estimate(
        what="evaluation time",
        value=sum(by_subject.values()),
        unit="s",
        because=f"{rows.test_rows:,} test rows for each of "
        + ", ".join(f"{subject} ({duration(seconds)})" for subject, seconds in by_subject.items()),
    )


def suites_s(suites: Sequence[PlannedSuite], shape: BaseShape, machine: Machine) -> dict[str, float]:
    """Return how long each suite takes of all who answer it [s]."""
    speed = _speed(machine, GENERATION_SHARE)
    return {suite.name: _suite_flops(suite, shape) / speed for suite in suites}


def _suite_flops(suite: PlannedSuite, shape: BaseShape) -> float:
    passed = suite.prompt_tokens + suite.answer_tokens
    attended = 4 * shape.layers * shape.attention * passed * passed / max(suite.rows, 1)
    return suite.models * (2 * shape.trunk * passed + attended + 2 * shape.output * suite.answer_tokens)


def _suites_time(schedule: Schedule, shape: BaseShape, machine: Machine) -> tuple[Estimate, ...]:
    """Return how long the suites take, where there are any."""
    if not schedule.suites:
        return ()
    found = suites_s(schedule.suites, shape, machine)
    return (
        Estimate(
            what="suites time",
            value=sum(found.values()),
            unit="s",
            because=", ".join(
                f"{suite.name} ({counted(suite.rows, 'row')}) for {_who(suite)} {duration(found[suite.name])}"
                for suite in schedule.suites
            ),
        ),
    )


def _who(suite: PlannedSuite) -> str:
    return "base and tuned model" if suite.models > 1 else "the tuned model alone"


def _memory(rows: RowCounts, schedule: Schedule, shape: BaseShape) -> Estimate:
    what = schedule.training
    frozen, state = frozen_bytes(shape, what), state_bytes(what)
    supervised = rows.forward_rows * rows.supervised_tokens / max(rows.train_rows, 1)
    activations = round(
        bytes_a_token(shape, what) * rows.forward_tokens + bytes_a_supervised_token(shape) * supervised
    )
    training = LIBRARIES_BYTES + frozen + state + activations
    # Weights are copied out of the file that they were mapped from.
    loading = LIBRARIES_BYTES + 2 * _FLOAT * shape.parameters
    beside = 0 if schedule.kind == "none" else schedule.adapter_parameters
    serving = LIBRARIES_BYTES + _FLOAT * (shape.parameters + beside) + schedule.cache_bytes
    held = f"weights {size(frozen)}, " if frozen else ""
    what_is_trained = "trained weights" if schedule.kind == "none" else "adapter"
    return Estimate(
        what="memory",
        value=max(training, loading, serving),
        unit="bytes",
        because=f"training: {held}{what_is_trained} with gradients and optimizer {size(state)}, activations "
        f"of {rows.forward_tokens:,} tokens {size(activations)}, libraries {size(LIBRARIES_BYTES)}; loading: "
        f"{size(loading)}; answering: {size(serving)}",
    )


def _disk(rows: RowCounts, schedule: Schedule) -> Estimate:
    training = training_disk(
        schedule.adapter_parameters,
        row_steps=rows.train_rows * schedule.epochs,
        merged=schedule.merged,
        kept=schedule.kept_checkpoints,
    )
    answers = _ANSWER_BYTES * rows.test_rows * len(schedule.subjects)
    left = "adapter and merged model" if schedule.merged else "adapter"
    return Estimate(
        what="disk",
        value=rows.dataset_bytes + training.most + answers,
        unit="bytes",
        because=f"dataset {size(rows.dataset_bytes)}, {left} {size(training.adapter)}, up to {CHECKPOINTS} "
        f"checkpoints at once {size(CHECKPOINTS * training.checkpoint)}, "
        f"answers {size(answers)}",
    )


def _steps(rows: RowCounts, schedule: Schedule) -> int:
    return math.ceil(math.ceil(rows.train_rows / schedule.batch_size) * schedule.epochs)


def _saved(rows: RowCounts) -> str:
    return percent(1 - rows.computed_tokens / max(rows.train_tokens, 1))


def _training_flops(rows: RowCounts, schedule: Schedule, shape: BaseShape) -> float:
    forward = 2 * shape.trunk * rows.computed_tokens + 2 * shape.output * rows.supervised_tokens
    validation = (
        2 * shape.trunk * rows.validation_computed_tokens
        + 2 * shape.output * rows.validation_supervised_tokens
    )
    reference = forward + _measured_flops(rows, shape) + validation
    return (
        schedule.epochs * _pass_flops(rows, schedule, shape)
        + schedule.validations * validation
        + schedule.reference_passes * reference
    )


def _measured_flops(rows: RowCounts, shape: BaseShape) -> float:
    """Return the operations of a pass over what is only measured beside the rows."""
    output = 2 * shape.output * rows.supervised_tokens if rows.measured_tokens else 0
    return 2 * shape.trunk * rows.measured_tokens + output


def _pass_flops(rows: RowCounts, schedule: Schedule, shape: BaseShape) -> float:
    """Return the operations of the steps of one pass."""
    tokens = rows.computed_tokens
    mean_row = rows.train_tokens / max(rows.train_rows, 1)
    # Checkpointed, each layer's forward is computed a second time going backward.
    forwards = 2 if schedule.checkpointing else 1
    whole = schedule.kind == "none"
    # Where every weight is trained there is none beside the trunk, whose own gradient is another product.
    added = 0 if whole else schedule.adapter_parameters
    backward = 2 if whole else 1
    a_pass = (
        2 * (forwards + backward) * shape.trunk * tokens
        + 2 * (forwards + 2) * added * tokens
        + 4 * (forwards + 2) * shape.layers * shape.attention * tokens * mean_row
        + 2 * (1 + backward) * shape.output * rows.supervised_tokens
    )
    return a_pass + _measured_flops(rows, shape)


def _answering_flops(rows: RowCounts, schedule: Schedule, shape: BaseShape, subject: PlannedSubject) -> float:
    """Return the operations of one subject's answers on the test split.

    The engine computes what prompts begin with once; added tokens are part of that, but every token behind
    them attends to them.
    """
    shared = rows.shared_prefix + subject.added_tokens - subject.own_tokens
    own = rows.test_prompt_tokens + (subject.own_tokens - rows.shared_prefix) * rows.test_rows
    mean_own = own / max(rows.test_rows, 1)
    context = shared + mean_own
    answer = schedule.max_new_tokens if subject.free else rows.answer_tokens
    answered = rows.test_rows * min(answer, schedule.max_new_tokens)
    likelihood = subject.perplexity_rows * (mean_own + rows.answer_tokens)
    passed = shared + own + answered + likelihood
    attended = 4 * shape.layers * shape.attention * context * (own + answered + likelihood)
    output = 2 * shape.output * (answered + subject.perplexity_rows * rows.answer_tokens)
    return 2 * shape.trunk * passed + attended + output


def _warnings(found: Forecast) -> tuple[str, ...]:
    rows, machine = found.rows, found.machine
    warnings = []
    if not found.has_memory:
        warnings.append(
            f"needs about {size(found.memory_bytes)} of memory, and {size(machine.free_memory_bytes)} are "
            "free: set train.micro_batch_size lower, or data.max_tokens"
        )
    if found.disk_bytes > machine.free_disk_bytes:
        warnings.append(
            f"needs about {size(found.disk_bytes)} of disk, and {size(machine.free_disk_bytes)} are free: "
            "set TUNERY_HOME to a larger disk"
        )
    if rows.too_long_rows:
        warnings.append(
            f"{rows.too_long_rows:,} rows are longer than {rows.max_tokens:,} tokens; none is ever cut: with "
            "data.max_tokens they are dropped, without it preflight stops"
        )
    return tuple(warnings)


def _speed(machine: Machine, share: Mapping[str, float]) -> float:
    return machine.flops * share.get(machine.device, share["cpu"])


def _tflop(count: float) -> str:
    return f"{count / 1e12:,.2f} TFLOP" if count >= 1e12 else f"{count / 1e9:,.0f} GFLOP"
