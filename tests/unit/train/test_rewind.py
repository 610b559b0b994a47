"""Looking back: the spike that was planted comes first, and its rows with it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tunery.core.errors import ConfigError
from tunery.train.recorder import Recorded, Recorder, RowLoss
from tunery.train.rewind import rewind, spikes


def recorded(folder: Path, *, spoilt: dict[int, float]) -> Recorded:
    """30 steps of 4 out of 20 rows; at some steps row r0, r1, … has another loss."""
    recorder = Recorder(folder, [f"r{i}" for i in range(20)])
    drawn = np.random.default_rng(0)
    for step in range(1, 31):
        rows = [(step * 4 + i) % 20 for i in range(4)]
        losses = [float(drawn.uniform(0.9, 1.1)) for _ in rows]
        if step in spoilt:
            losses[2] = spoilt[step]
        recorder.add(step, (), [RowLoss(f"r{r}", x, x / 4) for r, x in zip(rows, losses, strict=True)])
    return recorder.read()


def test_the_largest_spike_comes_first_with_the_row_that_made_it(tmp_path: Path) -> None:
    first, second, *_ = spikes(recorded(tmp_path, spoilt={12: 40.0, 20: 9.0}))
    assert (first.step, second.step) == (12, 20)
    assert first.rows[0] == f"r{(12 * 4 + 2) % 20}"
    assert first.factor == pytest.approx(43 / 4, rel=0.1)
    assert first.usual == pytest.approx(1.0, rel=0.1)


def test_a_loss_that_is_no_number_is_the_largest_spike(tmp_path: Path) -> None:
    first, *_ = spikes(recorded(tmp_path, spoilt={15: math.nan, 20: 90.0}))
    assert first.step == 15
    assert first.rows[0] == f"r{(15 * 4 + 2) % 20}"
    assert math.isinf(first.factor)


def test_rewinding_gives_a_rows_own_losses_and_those_of_others(tmp_path: Path) -> None:
    found = recorded(tmp_path, spoilt={12: 40.0})
    then = rewind(found, 12)
    assert (then.step, then.steps, len(then.rows)) == (12, 30, 4)
    assert then.loss == pytest.approx(sum(row.share for row in then.rows))
    worst = then.rows[0]
    assert worst.loss == 40.0
    assert len(worst.before) == 2  # every fifth step has it: 2, 7, then 12
    assert len(worst.after) == 3
    assert all(0.9 <= loss <= 1.1 for loss in (*worst.before, *worst.after))
    assert worst.usual == pytest.approx(1.0, rel=0.1)
    assert rewind(found, 1).usual is None


def test_a_step_that_was_not_recorded_names_those_that_were(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="step 31 was not recorded; there are steps 1 to 30"):
        rewind(recorded(tmp_path, spoilt={}), 31)
    with pytest.raises(ConfigError, match="no step was recorded yet"):
        rewind(Recorder(tmp_path / "b", ["a"]).read(), 1)
    assert spikes(Recorder(tmp_path / "c", ["a"]).read()) == []
