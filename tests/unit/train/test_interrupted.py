"""Asked to stop within a step: the last whole one is saved, and going on ends with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.train.test_recorder import pairs, settings
from tests.unit.train.test_training import CONFIG, DATA, losses, train
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model import packing
from tunery.model.bases import describe_base
from tunery.train import checkpoints
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRows
from tunery.train.recorder import recorded_in

PARTS = CONFIG.model_copy(update={"micro_batch_size": 2})
"""Four forwards a step, six steps a pass, a checkpoint every third; with dropout."""


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many forwards of training there were."""
    count = [0]
    plain = packing.target_logits

    def counted(model: Any, batch: packing.Packed, **options: Any) -> torch.Tensor:
        count[0] += torch.is_grad_enabled()
        return plain(model, batch, **options)

    monkeypatch.setattr(packing, "target_logits", counted)
    return count


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (4 * 4 + 2, 4),  # in the midst of the fifth step
        (4 * 3 + 1, 3),  # right behind a checkpoint
        (4 * 5 + 2 + 1, 6),  # in the first step of the second pass; the sixth has two forwards
        (2, 0),  # before there is anything to save
    ],
)
@pytest.mark.parametrize("method", ["sft", pytest.param("kto", marks=pytest.mark.slow)])
def test_the_last_whole_step_is_saved_and_nothing_of_the_half_one(
    base: BaseModelInfo, tmp_path: Path, forwards: list[int], after: int, kept: int, method: str
) -> None:
    config: TrainConfig = PARTS
    data = DATA
    if method == "kto":
        config = settings("kto", micro_batch_size=2, dropout=0.1, validation_every=3)
        made = pairs(54, unrelated=True)
        data = TrainingRows(made[:44], made[44:])
    whole = train(base, tmp_path / "whole", config=config, data=data, progress=Silent())  # type: ignore[arg-type]
    forwards[0] = 0
    options: dict[str, Any] = {"config": config, "data": data, "progress": Silent()}
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(base, tmp_path / "a", should_stop=lambda: forwards[0] >= after, **options)
    assert forwards[0] == after  # not one more
    root = tmp_path / "a" / "checkpoints"
    assert max(checkpoints.steps_in(root), default=0) == kept
    assert bool(kept) == (f"the checkpoint of step {kept} of 12 is kept" in str(stopped.value))
    again = train(base, tmp_path / "a", **options)
    assert losses(again) == losses(whole)
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("a", "whole")]
    assert weights[0] == weights[1]
    records = [recorded_in(tmp_path / name) for name in ("a", "whole")]
    assert records[0] is not None
    assert records[1] is not None
    assert all((one == other).all() for one, other in zip(records[0][1:], records[1][1:], strict=True))
