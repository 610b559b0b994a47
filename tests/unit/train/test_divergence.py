"""Divergence: told from a loss that is merely uneven, stopped with its rows named, nothing good lost."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.train.test_recorder import answers
from tests.unit.train.test_training import CONFIG, train
from tunery.core.errors import DivergedError
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model import packing
from tunery.model.bases import describe_base
from tunery.train import checkpoints
from tunery.train.divergence import IN_A_ROW, Losses
from tunery.train.methods.method import TrainingRows
from tunery.train.recorder import recorded_in


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


def verdicts(losses: list[float], factor: float | None = 3.0) -> list[int]:
    """The steps at which something is wrong."""
    seen = Losses(factor)
    return [step for step, loss in enumerate(losses, 1) if seen.add(step, loss) is not None]


FALLING = [3.0 * 0.9**i + 0.2 for i in range(40)]


def test_five_steps_in_a_row_far_above_are_an_explosion() -> None:
    assert verdicts([*FALLING, *[9.0] * 4]) == []
    assert verdicts([*FALLING, *[9.0] * 4, 0.3, *[9.0] * 4]) == []
    assert verdicts([*FALLING, *[9.0] * 5]) == [45]
    assert Losses(3.0).add(1, 0.5) is None
    assert verdicts([*FALLING, *[9.0] * 5], factor=None) == []


def test_where_it_began_is_the_floor() -> None:
    assert verdicts([*FALLING, *[0.01] * 60, *[2.0] * 20]) == []  # 200 times the median, yet below the start
    assert verdicts([*FALLING, *[0.01] * 60, *[4.0] * 5]) == [105]


def test_the_first_steps_are_never_an_explosion() -> None:
    assert verdicts([0.1] * 5 + [9.0] * 5) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("factor", [None, 3.0])
def test_a_loss_that_is_no_number_is_always_wrong(value: float, factor: float | None) -> None:
    assert verdicts([value], factor) == [1]
    assert verdicts([1.0, value, 1.0], factor) == [2]


@given(st.lists(st.floats(0.01, 20), max_size=60), st.integers(0, 60))
def test_a_run_that_goes_on_judges_as_one_that_was_never_stopped(losses: list[float], at: int) -> None:
    points = [{"step": step, "train_loss": loss} for step, loss in enumerate(losses, 1)]
    whole, before = Losses(3.0), Losses(3.0, points[:at])
    for point in points[:at]:
        whole.add(int(point["step"]), point["train_loss"])
    for point in points[at:]:
        step, loss = int(point["step"]), point["train_loss"]
        assert whole.add(step, loss) == before.add(step, loss)


@given(st.lists(st.floats(0.5, 1.4), min_size=20, max_size=80))
def test_noise_within_the_factor_is_none(losses: list[float]) -> None:
    assert verdicts(losses, 3.0) == []


def spoilt(monkeypatch: pytest.MonkeyPatch, from_step: int, factor: float, until: int = 10_000) -> None:
    """Multiply the loss of training from a step on."""
    from tunery.train.methods.sft import Supervised

    plain, seen = Supervised.losses, 0

    def losses(self: Supervised, model: Any, batch: packing.Packed) -> tuple[torch.Tensor, ...]:
        nonlocal seen
        seen += torch.is_grad_enabled()
        found = plain(self, model, batch)
        if torch.is_grad_enabled() and from_step <= seen < until:
            return tuple(loss * factor for loss in found)
        return found

    monkeypatch.setattr(Supervised, "losses", losses)


DATA = TrainingRows(answers(44), answers(10))
LONG = CONFIG.model_copy(update={"epochs": 6.0, "early_stopping": None, "learning_rate": 1e-3})
"""36 steps, a checkpoint every third."""


def test_nan_stops_and_keeps_the_rows_and_the_checkpoint_from_before(
    base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt(monkeypatch, 7, math.nan)
    with pytest.raises(DivergedError, match="the training loss became nan at step 7") as caught:
        train(base, tmp_path / "a", config=LONG, data=DATA, progress=Silent())
    folder = tmp_path / "a" / "checkpoints"
    # The step's weights were those of checkpoint 6, so that one is no good either.
    assert checkpoints.steps_in(folder) == [3]
    assert checkpoints.newest(folder) == folder / "checkpoint-3"
    assert "the checkpoint of step 3 is kept" in caught.value.message
    assert str(folder / "diverged-at-step-7.json") in caught.value.message
    assert caught.value.step == 7
    batch = json.loads((folder / "diverged-at-step-7.json").read_text(encoding="utf-8"))
    by_id = {row.id: row for row in DATA.train}
    assert len(batch["rows"]) == 8
    for row in batch["rows"]:
        assert row["loss"] == "nan"
        assert [tuple(s["ids"]) for s in row["sequences"]] == [s.ids for s in by_id[row["id"]].sequences]
    found = recorded_in(folder)
    assert found is not None
    assert {row.id for row in found.of_step(7)} == {row["id"] for row in batch["rows"]}


def test_an_explosion_stops_and_the_same_command_goes_on_from_before_it(
    base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(base, tmp_path / "whole", config=LONG, data=DATA, progress=Silent())
    with monkeypatch.context() as patched:
        spoilt(patched, 20, 40.0)
        with pytest.raises(
            DivergedError, match=r"rose to .* by step 24, from a median of .* in the 19 steps before step 20"
        ):
            train(base, tmp_path / "a", config=LONG, data=DATA, progress=Silent())
    folder = tmp_path / "a" / "checkpoints"
    assert max(checkpoints.steps_in(folder)) == 18  # those of step 21 and 24 went with the explosion
    again = train(base, tmp_path / "a", config=LONG, data=DATA, progress=Silent())
    assert [(h.step, h.train_loss) for h in again.history] == [(h.step, h.train_loss) for h in whole.history]


def test_a_spell_shorter_than_that_loses_no_checkpoint(
    base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt(monkeypatch, 20, 40.0, until=20 + IN_A_ROW - 1)
    done = train(base, tmp_path / "a", config=LONG, data=DATA, progress=Silent())
    assert done.steps == 36
    kept = checkpoints.steps_in(tmp_path / "a" / "checkpoints")
    assert {36, done.best_step} <= set(kept)
    assert len(kept) <= 3


def test_there_is_always_a_whole_checkpoint_that_is_trusted_and_the_best_one(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    """Looked at behind every forward, in runs that go on from a checkpoint, too."""
    folder = tmp_path / "a" / "checkpoints"
    points: list[dict[str, float]] = []
    sealed: list[int] = []

    def look() -> bool:
        steps = checkpoints.steps_in(folder)
        if sealed:
            assert all(checkpoints.damage_of(folder / f"checkpoint-{step}") == "" for step in steps)
            assert steps[-1] == sealed[-1]
            validated = [point for point in points if "validation_loss" in point]
            assert min(validated, key=lambda point: point["validation_loss"])["step"] in steps
            if len(sealed) > 1 and points[-1]["step"] == sealed[-1]:  # its weights were not used yet
                assert sealed[-2] in steps
        return len(sealed) == 4

    config = LONG.model_copy(update={"learning_rate": 0.05, "micro_batch_size": 4})
    for _ in range(2):
        sealed.clear()
        with pytest.raises(KeyboardInterrupt):
            train(
                base,
                tmp_path / "a",
                config=config,
                data=DATA,
                progress=Silent(),
                should_stop=look,
                on_point=lambda point: points.append(dict(point)),
                on_checkpoint=lambda step, _: sealed.append(step),
            )
    assert sealed == [15, 18, 21, 24]


def test_it_can_be_turned_off(base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(monkeypatch, 20, 40.0)
    config = LONG.model_copy(update={"divergence_factor": None})
    assert train(base, tmp_path / "a", config=config, data=DATA, progress=Silent()).steps == 36


def test_gradients_that_are_no_numbers_are_never_in_a_checkpoint(
    base: BaseModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunery.train.trainer import PackedTrainer

    plain = PackedTrainer.training_step

    def step(self: PackedTrainer, model: Any, inputs: Any, counts: Any = None) -> torch.Tensor:
        loss = plain(self, model, inputs, counts)
        if self.state.global_step == 5:  # the sixth, behind which a checkpoint is due
            next(p for p in model.parameters() if p.grad is not None).grad.fill_(math.nan)
        return loss

    monkeypatch.setattr(PackedTrainer, "training_step", step)
    with pytest.raises(DivergedError, match="the gradients became nan at step 6"):
        train(base, tmp_path / "a", config=LONG, data=DATA, progress=Silent())
    assert checkpoints.steps_in(tmp_path / "a" / "checkpoints") == [3]


def test_the_setting_does_not_change_an_adapters_id() -> None:
    from tunery.train.config import identity_settings

    assert "divergence_factor" not in identity_settings(CONFIG)
