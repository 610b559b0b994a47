"""Two hundred steps with beginnings computed once lie on two hundred in which every row computes its own."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from tests.unit.train.test_training import base, train
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model.packing import pack
from tunery.model.render import Rendered
from tunery.train import trainer
from tunery.train.config import TrainConfig
from tunery.train.methods.dpo import DpoConfig
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.sft import SftConfig

__all__ = ["base"]

STEPS = 200
SETTINGS = {
    "rank": 4,
    "batch_size": 8,
    "epochs": 25,
    "validation_every": 100,
    "early_stopping": None,
    "device": "cpu",
    "threads": 1,
}


def conversations(*, answers: int) -> TrainingRows:
    """Return rows of one instruction, eight questions and eight answers each, or pairs of those answers."""
    drawn = random.Random(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(drawn.randrange(3, 200) for _ in range(count))

    instruction = some(20)
    rows = []
    for _ in range(8):
        question = instruction + some(12)
        for _ in range(8):
            given = [question + some(6) for _ in range(answers)]
            rows.append(TrainingRow(tuple(Rendered(ids, (0,) * 32 + (1,) * 6, 32) for ids in given)))
    return TrainingRows(rows, rows[:8])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "rows"),
    [
        (SftConfig.model_validate({**SETTINGS, "learning_rate": 1e-2}), conversations(answers=1)),
        (DpoConfig.model_validate({**SETTINGS, "learning_rate": 1e-3}), conversations(answers=2)),
    ],
    ids=["sft", "dpo"],
)
def test_curves_lie_on_each_other(
    base: BaseModelInfo,
    tmp_path: Path,
    config: TrainConfig,
    rows: TrainingRows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = train(base, tmp_path / "shared", config=config, data=rows, progress=Silent())
    monkeypatch.setattr(trainer, "pack", partial(pack, share_prefix=False))
    apart = train(base, tmp_path / "apart", config=config, data=rows, progress=Silent())
    assert shared.steps == apart.steps == STEPS
    curves = [[log.train_loss or 0.0 for log in run.history] for run in (shared, apart)]
    assert curves[0][-1] < 0.8 * curves[0][0]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3, abs=1e-4)
