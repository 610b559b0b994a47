"""Forwards chosen by free memory, and activations computed again: the same losses in less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.train.test_training import CONFIG, DATA, base, losses, row, train
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model.memory import bytes_a_token, frozen_bytes, state_bytes
from tunery.model.packing import pack, target_log_probs
from tunery.model.shape import BaseShape, read_shape
from tunery.train.budget import fitted, training_of
from tunery.train.config import identity_settings
from tunery.train.methods.sft import SftConfig
from tunery.train.trainable import checkpointed, trainable_model
from tunery.train.trainer import PackedTrainer

__all__ = ["base"]

SMOLLM2 = BaseShape(
    parameters=134_515_008, layers=30, hidden=576, intermediate=1536, attention=576, key_value=192,
    vocabulary=49_152, tied=True,
)  # fmt: skip
ROWS = [row(1, *range(3, 400), mask=(0,) * 390 + (1,) * 8) for _ in range(8)]


def choose(free: float, **settings: Any) -> SftConfig:
    config = SftConfig.model_validate(settings)
    found = fitted(config, SMOLLM2, ROWS, free=int(free * 2**30), device_type="cpu", loaded=True)
    assert isinstance(found, SftConfig)
    return found


def test_forwards_grow_with_free_memory_up_to_what_the_recipe_says() -> None:
    keeps = {"gradient_checkpointing": False}
    bounds = [choose(free, **keeps).micro_batch_tokens for free in (1, 2, 4, 8, 64)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == 8192
    assert bounds[1] < 1500
    assert choose(64, micro_batch_tokens=100).micro_batch_tokens == 100
    assert choose(0).micro_batch_tokens == 8192  # not known
    assert choose(8, adapter="dora").micro_batch_tokens < choose(8).micro_batch_tokens
    config = choose(4)
    training = training_of(config, SMOLLM2, "cpu")
    assert config.micro_batch_tokens * bytes_a_token(SMOLLM2, training) < 4 * 2**30


def test_activations_are_computed_again_where_the_longest_row_would_not_fit() -> None:
    assert choose(4).gradient_checkpointing is False
    assert choose(0.6).gradient_checkpointing is True
    assert choose(0.6, gradient_checkpointing=False).gradient_checkpointing is False
    assert choose(64, gradient_checkpointing=True).gradient_checkpointing is True
    assert choose(0.6).micro_batch_tokens > choose(0.6, gradient_checkpointing=False).micro_batch_tokens
    assert identity_settings(choose(0.6)) == identity_settings(choose(64))


def test_an_adapters_state_is_under_a_tenth_of_full_fine_tunings() -> None:
    lora, whole = (training_of(SftConfig(adapter=kind), SMOLLM2, "cpu") for kind in ("lora", "none"))
    assert state_bytes(lora) / state_bytes(whole) < 0.04
    assert frozen_bytes(SMOLLM2, whole) == 0
    nf4 = training_of(SftConfig(quantization="nf4"), SMOLLM2, "cpu")
    assert frozen_bytes(SMOLLM2, nf4) < 0.35 * frozen_bytes(SMOLLM2, lora)


@pytest.mark.parametrize("kind", ["lora", "dora", "none", "nf4"])
def test_checkpointing_changes_no_loss_and_keeps_less(base: BaseModelInfo, tmp_path: Path, kind: str) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    changes = {"quantization": "nf4"} if kind == "nf4" else {"adapter": kind}
    config = CONFIG.model_copy(update={**changes, "learning_rate": 1e-3})
    plain = train(base, tmp_path / "a", config=config, data=DATA, progress=Silent())
    again = config.model_copy(update={"gradient_checkpointing": True})
    assert losses(train(base, tmp_path / "b", config=again, data=DATA, progress=Silent())) == losses(plain)

    kept = []
    for checkpointing in (False, True):
        model = trainable_model(base, config, torch.device("cpu")).train()
        if checkpointing:
            checkpointed(model)
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            batch = pack([r.sequences[0] for r in DATA.train])
            target_log_probs(model, batch).sum().backward()
        kept.append(sum(sizes.values()))
    assert kept[1] < kept[0]


def test_a_small_machine_is_told_and_trains_in_smaller_forwards(
    base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.train.test_smoke import Told
    from tunery.train import training

    shape = read_shape(Path(base.path), parameters=base.parameters)
    a_token = bytes_a_token(shape, training_of(CONFIG, shape, "cpu"))
    monkeypatch.setattr(training, "free_memory_bytes", lambda: 600 * a_token)
    heard = Told()
    small = train(base, tmp_path / "a", progress=heard)
    assert any("forwards of at most" in message for message in heard.messages)
    monkeypatch.undo()
    assert small.steps == train(base, tmp_path / "b", progress=Silent()).steps


@pytest.mark.parametrize("smoked", [False, True])
def test_what_auto_chose_is_what_is_trained_with(
    base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smoked: bool
) -> None:
    """In the smoke run as behind it, where the model is made a second time, and where there is none."""
    from tunery.train import smoke, training

    if smoked:  # so few steps would have no smoke run
        monkeypatch.setattr(training, "smoke_rows", lambda rows, config: list(rows[:8]))
    seen: list[bool] = []

    def watched(model: Any, *parts: Any, **options: Any) -> PackedTrainer:
        seen.append(model.is_gradient_checkpointing)
        return PackedTrainer(model, *parts, **options)

    monkeypatch.setattr(training, "PackedTrainer", watched)
    monkeypatch.setattr(smoke, "PackedTrainer", watched)
    plenty = train(base, tmp_path / "a", progress=Silent())
    monkeypatch.setattr(training, "free_memory_bytes", lambda: 1)
    scarce = train(base, tmp_path / "b", progress=Silent())
    assert seen == ([False, False, True, True] if smoked else [False, True])
    expected = [point.train_loss for point in plenty.history]
    assert [point.train_loss for point in scarce.history] == pytest.approx(expected, rel=1e-5)
