"""Too little memory: the forward gets smaller, the step stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from tests.unit.train.test_recorder import answers, pairs, settings
from tests.unit.train.test_training import Heard, Killed, losses, train
from tunery.core.errors import ResourceError
from tunery.core.training import BaseModelInfo
from tunery.model import packing
from tunery.model.bases import describe_base
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRows, validation_rows
from tunery.train.recorder import recorded_in
from tunery.train.section import method_of

Fails = Callable[[int], bool]
"""Told a forward's tokens, says whether they do not fit."""


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fails], list[int]]:
    """Let forwards fail; returns the sizes of those that did not [tokens]."""
    whole = packing.target_logits

    def fail(fails: Fails) -> list[int]:
        sizes: list[int] = []

        def watched(model: Any, batch: packing.Packed, **options: Any) -> torch.Tensor:
            tokens = batch.input_ids.shape[1]
            logits = whole(model, batch, **options)
            if fails(tokens):
                raise RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
                )
            sizes.append(tokens)
            return logits

        monkeypatch.setattr(packing, "target_logits", watched)
        return sizes

    return fail


def data_of(config: TrainConfig) -> TrainingRows:
    if method_of(config).takes == "answers":
        return TrainingRows(answers(22), answers(6))
    made = pairs(28, unrelated=config.method == "kto")
    return TrainingRows(made[:22], made[22:])


def run(
    base: BaseModelInfo, folder: Path, config: TrainConfig, **options: Any
) -> tuple[Any, list[str], bytes]:
    heard = Heard()
    done = train(base, folder, config=config, data=data_of(config), progress=heard, **options)  # type: ignore[arg-type]
    return losses(done), heard.told, (folder / "adapter_model.safetensors").read_bytes()


def smaller(config: TrainConfig, told: list[str]) -> TrainConfig:
    """The settings of a run that begins with the bound that another one came to."""
    tokens = int(told[-1].partition("at most ")[2].partition(" tokens")[0].replace(",", ""))
    return config.model_copy(update={"micro_batch_tokens": tokens})


@pytest.mark.parametrize(
    ("config", "which"),
    [
        (settings("sft", dropout=0.1), 1),
        (settings("sft", dropout=0.1, micro_batch_size=4), 2),  # behind one whose gradients must go
        pytest.param(settings("orpo", dropout=0.1, micro_batch_size=4), 2, marks=pytest.mark.slow),
        (settings("kto", dropout=0.1, micro_batch_size=4), 2),
    ],
    ids=lambda given: getattr(given, "method", given),
)
def test_a_forward_that_does_not_fit_becomes_smaller_ones_with_the_same_result(
    base: BaseModelInfo, tmp_path: Path, memory: Any, config: TrainConfig, which: int
) -> None:
    seen = 0

    def fails(tokens: int) -> bool:
        nonlocal seen
        seen += torch.is_grad_enabled()
        return seen == which and torch.is_grad_enabled()

    memory(fails)
    found, told, weights = run(base, tmp_path / "a", config)
    assert len(told) == 1
    assert "do not fit into memory at once" in told[0]
    assert f"batch_size stays {config.batch_size}" in told[0]
    whole = recorded_in(tmp_path / "a")
    assert whole is not None
    assert len(whole.step) == 44  # a step that began anew stands there once
    seen = 100
    sizes = memory(fails)
    less, nothing, same = run(base, tmp_path / "b", smaller(config, told))
    assert nothing == []
    if config.method == "kto":
        # On some processors the last bits differ; which product rounds otherwise is not known.
        assert np.asarray(found) == pytest.approx(np.asarray(less), abs=1e-6)
        after, alone = load(weights), load(same)
        assert all(torch.allclose(after[name], alone[name], atol=1e-6) for name in alone)
    else:
        assert (found, weights) == (less, same)  # to the last bit: the step was computed anew
    assert sizes


def test_rows_that_are_larger_later_on_halve_it_again(
    base: BaseModelInfo, tmp_path: Path, memory: Any
) -> None:
    config = settings("sft")
    sizes = memory(lambda tokens: tokens > 17)
    _, told, _ = run(base, tmp_path / "a", config)
    assert told
    assert max(sizes) <= 17
    memory(lambda tokens: False)
    whole, _, _ = run(base, tmp_path / "b", config)
    found, _, _ = run(base, tmp_path / "c", smaller(config, told))
    for one, other in zip(found, whole, strict=True):
        assert one[1] == pytest.approx(other[1], rel=1e-3)


@pytest.mark.parametrize("method", ["sft", pytest.param("dpo", marks=pytest.mark.slow), "kto"])
def test_what_is_only_measured_gets_smaller_too(
    base: BaseModelInfo, tmp_path: Path, memory: Any, method: str
) -> None:
    config = settings(method)
    sizes = memory(lambda tokens: not torch.is_grad_enabled() and tokens > 24)
    found, told, _ = run(base, tmp_path / "a", config)
    assert told
    assert sizes
    memory(lambda tokens: False)
    less, _, _ = run(base, tmp_path / "b", smaller(config, told))
    for one, other in zip(found, less, strict=True):
        assert one[1:] == pytest.approx(other[1:], rel=1e-4)


def test_a_run_that_goes_on_keeps_the_smaller_bound(base: BaseModelInfo, tmp_path: Path, memory: Any) -> None:
    config = settings("sft", dropout=0.1)
    seen = 0

    def fails(tokens: int) -> bool:
        nonlocal seen
        seen += torch.is_grad_enabled()
        return seen == 1 and torch.is_grad_enabled()

    memory(fails)
    whole = run(base, tmp_path / "a", config)

    def die(step: int, _: Any) -> None:
        if step == 3:
            raise Killed

    seen = 0
    with pytest.raises(Killed):
        run(base, tmp_path / "b", config.model_copy(update={"validation_every": 3}), on_checkpoint=die)
    again = run(base, tmp_path / "b", config.model_copy(update={"validation_every": 3}))
    assert again[1] == []
    assert [point[1] for point in again[0]] == [point[1] for point in whole[0]]


def test_a_single_row_that_does_not_fit_ends_training_as_before(
    base: BaseModelInfo, tmp_path: Path, memory: Any
) -> None:
    memory(lambda tokens: True)
    with pytest.raises(ResourceError, match="not enough memory") as caught:
        run(base, tmp_path / "a", settings("sft", micro_batch_size=1))
    assert "data.max_tokens" in str(caught.value)


def test_another_error_is_not_taken_for_too_little_memory(
    base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, batch: packing.Packed, **options: Any) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(packing, "target_logits", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run(base, tmp_path / "a", settings("sft"))


def test_validation_computes_no_more_rows_at_once_than_training() -> None:
    assert validation_rows(settings("sft", batch_size=4)) == 4
    assert validation_rows(settings("sft", batch_size=64, micro_batch_size=2)) == 2
    assert validation_rows(settings("sft", batch_size=64)) == 16
