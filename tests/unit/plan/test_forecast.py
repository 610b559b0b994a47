"""The arithmetic of a forecast, against counted operations and against itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.model.bases import describe_base
from tunery.model.shape import BaseShape, read_shape
from tunery.plan.forecast import (
    GENERATION_SHARE,
    OPEN_S,
    START_S,
    TRAINING_SHARE,
    Forecast,
    PlannedSubject,
    PlannedSuite,
    RowCounts,
    Schedule,
    forecast,
)
from tunery.plan.machine import Machine

SHAPE = BaseShape(
    parameters=134_515_008, layers=30, hidden=576, intermediate=1536, attention=576, key_value=192,
    vocabulary=49152, tied=True,
)  # fmt: skip
MACHINE = Machine(device="cpu", flops=1e11, free_memory_bytes=16 * 2**30, free_disk_bytes=100 * 2**30)
ROWS = RowCounts(
    train_rows=320, validation_rows=0, test_rows=100, train_tokens=12_800, computed_tokens=6_800,
    forward_tokens=660, forward_rows=16, supervised_tokens=1_600,
    validation_tokens=0, validation_computed_tokens=0, validation_supervised_tokens=0,
    test_prompt_tokens=3_500, answer_tokens=5.0, shared_prefix=20, longest=60, too_long_rows=0,
    max_tokens=8192, dataset_bytes=1_000_000,
)  # fmt: skip
TUNED = PlannedSubject(name="tuned", added_tokens=0, free=False, perplexity_rows=0)
SCHEDULE = Schedule(
    epochs=2, batch_size=16, rank=16, adapter_parameters=4_884_480, validations=0,
    subjects=(TUNED,), max_new_tokens=16, cache_bytes=0, weight_bytes=4,
)  # fmt: skip


def made(**changes: Any) -> Forecast:
    """Forecast with some settings changed, each where it belongs."""
    parts: list[Any] = [ROWS, SCHEDULE, SHAPE, MACHINE]
    for name, value in changes.items():
        parts = [part.with_(**{name: value}) if name in type(part).model_fields else part for part in parts]
    return forecast(*parts)


def test_training_time_is_counted_operations_over_speed() -> None:
    computed = 6_800
    found = made()
    assert found.computed_tokens == computed
    assert "46.9 % of its 12,800 saved" in found.estimates[0].because
    operations = 2 * (
        4 * SHAPE.trunk * computed
        + 6 * 4_884_480 * computed
        + 12 * 30 * 576 * computed * 40
        + 4 * 49152 * 576 * 1_600
    )
    assert found.training_s == pytest.approx(operations / (1e11 * TRAINING_SHARE["cpu"]))
    assert found.total_s == pytest.approx(found.training_s + found.evaluation_s + 2 * START_S)


def test_a_smoke_run_and_answers_to_validation_rows_take_time_too() -> None:
    plain = made()
    smoked = made(smoke_passes=0.5, smoke_most_s=60.0)
    (smoke,) = [e for e in smoked.estimates if e.what == "smoke run"]
    assert smoke.value == pytest.approx(plain.training_s / 4)  # half a pass of two
    assert smoked.training_s == plain.training_s
    assert smoked.total_s == pytest.approx(plain.total_s + smoke.value)
    assert made(smoke_passes=500.0, smoke_most_s=60.0).total_s == pytest.approx(plain.total_s + 60)
    answered = made(validations=8, answered_rows=50)
    unanswered = made(validations=8)
    an_answer = plain.evaluation_s / ROWS.test_rows
    assert answered.training_s - unanswered.training_s == pytest.approx(8 * (50 * an_answer + OPEN_S))
    assert "400 answers to validation rows" in answered.estimates[0].because


@pytest.mark.parametrize(
    "settings",
    [{}, {"adapter": "none"}, {"gradient_checkpointing": True}],
    ids=["lora", "full", "checkpointed"],
)
def test_operations_of_a_step_are_those_that_a_counter_sees(
    tiny_model: Path, settings: dict[str, Any]
) -> None:
    """Reference: PyTorch's own count of matrix products in one forward and backward."""
    import torch
    import torch.nn.functional as F
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    from tunery.model.packing import pack, target_logits
    from tunery.model.render import Rendered
    from tunery.train.budget import training_of
    from tunery.train.methods.sft import SftConfig
    from tunery.train.trainable import checkpointed, trainable_model

    config = SftConfig.model_validate({"rank": 4, **settings})
    base = describe_base(tiny_model, name="tiny")
    model = trainable_model(base, config, torch.device("cpu")).train()
    if config.gradient_checkpointing is True:
        checkpointed(model)
    prefix = tuple(range(3, 33))
    rows = [Rendered((*prefix, *range(100 + i, 140 + i)), (0,) * 60 + (1,) * 10, 60) for i in range(8)]
    batch = pack(rows)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def forward(query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
        return 2 * sdpa_flop_count(query, key, value)  # what it computes again left aside, as the forecast

    # The counter does not know attention on a CPU.
    seen = {flash: forward, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward}
    with FlopCounterMode(display=False, custom_mapping=seen) as counter:
        F.cross_entropy(target_logits(model, batch), batch.targets).backward()
    shape = read_shape(tiny_model, parameters=base.parameters)
    counts = ROWS.with_(
        train_rows=8, train_tokens=8 * 70, computed_tokens=batch.input_ids.shape[1], supervised_tokens=80,
        shared_prefix=30, longest=70, test_rows=0,
    )  # fmt: skip
    training = training_of(config, shape, "cpu")
    schedule = SCHEDULE.with_(
        epochs=1, batch_size=8, rank=4, adapter_parameters=training.trained, kind=training.kind,
        checkpointing=training.checkpointing,
    )  # fmt: skip
    machine = MACHINE.with_(flops=1.0 / TRAINING_SHARE["cpu"])
    predicted = forecast(counts, schedule, shape, machine).training_s
    # The first layer's inputs need no gradient, which matters where there are two layers.
    assert predicted == pytest.approx(counter.get_total_flops(), rel=0.08)


def test_twice_the_epochs_take_twice_the_time_and_the_same_memory() -> None:
    assert made(epochs=4).training_s == pytest.approx(2 * made().training_s)
    assert made(epochs=4).memory_bytes == made().memory_bytes
    assert made(epochs=4).steps == 2 * made().steps == 80


def test_answers_that_a_step_is_compared_with_take_a_forward_in_each_pass_and_one_before() -> None:
    more = made(measured_tokens=6_800, reference_passes=1).training_s - made(reference_passes=1).training_s
    a_forward = 2 * SHAPE.trunk * 6_800 + 2 * 49152 * 576 * 1_600
    assert more == pytest.approx((2 + 1) * a_forward / (1e11 * TRAINING_SHARE["cpu"]))


def test_a_model_that_the_adapter_is_merged_into_is_counted_on_the_disk() -> None:
    found = made(merged=SHAPE.parameters)
    assert found.disk_bytes - made().disk_bytes == 4 * SHAPE.parameters
    assert "adapter and merged model" in found.estimates[-1].because


def test_a_faster_machine_is_faster_in_proportion() -> None:
    assert made(flops=2e11).training_s == pytest.approx(made().training_s / 2)


def test_smaller_forwards_need_less_memory() -> None:
    assert made(forward_rows=4, forward_tokens=180).memory_bytes < made().memory_bytes


def test_half_precision_halves_the_weights() -> None:
    saved = made().memory_bytes - made(weight_bytes=2).memory_bytes
    assert saved >= 2 * SHAPE.parameters


def test_solved_examples_in_the_prompt_cost_time_and_free_answers_more() -> None:
    def seconds(**changes: Any) -> float:
        return made(subjects=(TUNED.with_(**changes),)).evaluation_s

    assert seconds() < seconds(added_tokens=400) < seconds(added_tokens=400, free=True)
    assert seconds() < seconds(perplexity_rows=100)
    assert made(subjects=(TUNED, TUNED.with_(name="champion"))).evaluation_s == pytest.approx(
        2 * made().evaluation_s
    )


@pytest.mark.parametrize(
    ("tokens", "supervised", "settings", "mib"),
    [
        (512, 64, {}, 2_394),
        (1_024, 128, {}, 3_558),
        (4_096, 256, {}, 10_162),
        (512, 64, {"kind": "dora"}, 3_121),
        (512, 64, {"quantized": True}, 2_111),
        (512, 64, {"kind": "none", "adapter_parameters": SHAPE.parameters}, 3_435),
    ],
)
def test_memory_is_within_15_percent_of_what_was_measured(
    tokens: int, supervised: int, settings: dict[str, Any], mib: int
) -> None:
    """Peaks of resident memory of SmolLM2-135M in fp32, rank 16: ``benchmarks/plan_memory.py``."""
    found = made(
        forward_tokens=tokens, forward_rows=1, train_rows=1, supervised_tokens=supervised, **settings
    )
    assert found.memory_bytes == pytest.approx(mib * 2**20, rel=0.15)


def test_what_does_not_fit_is_reported_with_what_to_change() -> None:
    assert made().fits
    assert made().warnings == ()
    small = made(free_memory_bytes=2**20)
    assert not small.fits
    assert "train.micro_batch_size" in small.warnings[0]
    full = made(free_disk_bytes=2**20)
    assert not full.fits
    assert "TUNERY_HOME" in full.warnings[0]
    assert made(free_memory_bytes=0).fits  # unknown is no reason to frighten anybody


def test_rows_that_are_too_long_are_reported() -> None:
    assert "7 rows are longer than 8,192 tokens" in made(too_long_rows=7).warnings[0]


def test_suites_take_their_time_of_the_evaluation_and_less_where_the_base_is_known() -> None:
    suite = PlannedSuite(name="general", rows=400, prompt_tokens=100_000, answer_tokens=0, models=2)
    plain, both = made(), made(suites=(suite,))
    once = made(suites=(suite.with_(models=1),))
    (estimate,) = [e for e in both.estimates if e.what == "suites time"]
    assert estimate.value > 2 * 2 * SHAPE.trunk * 100_000 / (MACHINE.flops * GENERATION_SHARE["cpu"])
    assert both.evaluation_s - plain.evaluation_s == pytest.approx(estimate.value)
    assert both.total_s - plain.total_s == pytest.approx(estimate.value)
    assert once.evaluation_s - plain.evaluation_s == pytest.approx(estimate.value / 2)
    assert "general (400 rows) for base and tuned model" in estimate.because
    assert not [e for e in plain.estimates if e.what == "suites time"]


def test_every_estimate_says_why() -> None:
    found = made()
    assert {e.what for e in found.estimates} == {"training time", "evaluation time", "memory", "disk"}
    assert all(len(e.because) > 20 for e in found.estimates)
    values = {e.what: e.value for e in found.estimates}
    assert values["training time"] == found.training_s
    assert values["memory"] == found.memory_bytes


def test_what_earlier_trainings_took_is_what_the_next_is_expected_to_take() -> None:
    found = made()
    again = found.learnt(tokens_per_s=100.0, trainings=3)
    assert again.training_s == pytest.approx(2 * 12_800 / 100)
    assert again.total_s - again.training_s == pytest.approx(found.total_s - found.training_s)
    assert "100 a second of 3 earlier trainings of this recipe; by arithmetic" in again.estimates[0].because


def test_time_has_its_price() -> None:
    cost = made().priced(36.0).estimates[-1]
    assert (cost.what, cost.unit) == ("cost", "price")
    assert cost.value == pytest.approx(made().total_s / 100)
