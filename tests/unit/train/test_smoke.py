"""A smoke run: refuses what would not learn, and changes nothing of the training behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.train.test_training import Killed, KilledAt, base, losses, row, rows, train
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.train.budget import smoke_rows
from tunery.train.methods.dpo import DpoConfig
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.sft import SftConfig

__all__ = ["base"]

SETTINGS: dict[str, Any] = {
    "rank": 4,
    "batch_size": 4,
    "epochs": 7,
    "learning_rate": 0.01,
    "dropout": 0.1,
    "early_stopping": None,
    "device": "cpu",
    "threads": 1,
}
LONG = row(1, *range(30, 60), 2, mask=(0,) * 30 + (1, 1))
DATA = TrainingRows([*rows(43), LONG], rows(4))


class Told(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def event(self, message: str, *, level: Any = "info", data: Mapping[str, Any] | None = None) -> None:
        self.messages.append(message)


def config(**settings: Any) -> SftConfig:
    return SftConfig.model_validate({**SETTINGS, **settings})


@pytest.mark.parametrize("kind", ["lora", pytest.param("none", marks=pytest.mark.slow)])
def test_the_training_behind_it_is_the_same_to_the_bit(
    base: BaseModelInfo, tmp_path: Path, kind: str
) -> None:
    heard = Told()
    wanted = config(adapter=kind)
    with_it = train(base, tmp_path / "a", config=wanted, data=DATA, progress=heard)
    assert any(m.startswith("smoke run: 5 steps on 4 rows took the loss from") for m in heard.messages)
    without = train(
        base, tmp_path / "b", config=wanted.model_copy(update={"smoke": False}), data=DATA, progress=Silent()
    )
    assert losses(with_it) == losses(without)
    name = "model/model.safetensors" if kind == "none" else "adapter_model.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_resumed_training_has_none(base: BaseModelInfo, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(base, tmp_path / "a", config=config(), data=DATA, progress=KilledAt(70))
    heard = Told()
    train(base, tmp_path / "a", config=config(), data=DATA, progress=heard)
    assert not any("smoke run" in message for message in heard.messages)


def test_what_would_not_learn_is_refused_before_it_is_trained(base: BaseModelInfo, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="would not learn either") as caught:
        train(base, tmp_path / "a", config=config(learning_rate=1.0), data=DATA, progress=Silent())
    assert "train.learning_rate=0.1" in str(caught.value)
    assert not (tmp_path / "a" / "adapter_model.safetensors").exists()
    assert not list((tmp_path / "a" / "checkpoints").glob("checkpoint-*"))
    off = config(learning_rate=1.0, smoke=False, epochs=0.5, divergence_factor=None)
    train(base, tmp_path / "b", config=off, data=DATA, progress=Silent())


def test_slow_learning_is_said(base: BaseModelInfo, tmp_path: Path) -> None:
    heard = Told()
    train(base, tmp_path / "a", config=config(learning_rate=1e-5), data=DATA, progress=heard)
    assert any("it learns slowly" in message for message in heard.messages)


def test_preferences_have_their_reference(base: BaseModelInfo, tmp_path: Path) -> None:
    pairs = [TrainingRow((*r.sequences, *o.sequences)) for r, o in zip(rows(40), rows(44)[4:], strict=True)]
    heard = Told()
    wanted = DpoConfig.model_validate({**SETTINGS, "learning_rate": 0.001})
    train(base, tmp_path / "a", config=wanted, data=TrainingRows(pairs, []), progress=heard)  # type: ignore[arg-type]
    told = next(m for m in heard.messages if m.startswith("smoke run"))
    assert "took the loss from 0.6" in told


def test_it_takes_a_tenth_of_the_steps_at_most_and_the_longest_row() -> None:
    few = smoke_rows(DATA.train, config())  # 77 steps: 7 may be spent, 5 passes over one batch are
    assert len(few) == 4
    assert LONG in few
    assert smoke_rows(DATA.train, config(epochs=4)) == []
    assert smoke_rows(DATA.train, config(smoke=False)) == []
    assert len(smoke_rows(rows(5000), config(batch_size=16))) == 100
    assert len(smoke_rows(rows(5000), config(batch_size=128, epochs=20))) == 128
    assert len({id(r) for r in smoke_rows(rows(5000), config())}) == 100
