"""The flight recorder: every step once, its rows' losses sum to the step's, whatever the method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.train.test_training import CONFIG, Killed, KilledAt, train
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model.bases import describe_base
from tunery.model.render import Rendered
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.recorder import RECORDER, Recorder, RowLoss, recorded_in
from tunery.train.section import method_of, training_methods


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


def sequence(*ids: int, trained: int) -> Rendered:
    mask = (0,) * (len(ids) - trained) + (1,) * trained
    return Rendered(ids, mask, len(ids) - trained, ())


def answers(count: int) -> list[TrainingRow]:
    """Rows of different lengths; every fourth has two answers, each a sequence of its own."""
    made = []
    for i in range(count):
        first = sequence(1, 50, 60 + i % 7, *range(70, 71 + i % 5), 2, trained=2 + i % 5)
        more = (sequence(1, 50, 60 + i % 7, 90, 91, 2, trained=2),) if i % 4 == 0 else ()
        made.append(TrainingRow((first, *more), id=f"ex-{i}"))
    return made


def pairs(count: int, *, unrelated: bool) -> list[TrainingRow]:
    made = []
    for i in range(count):
        two = (
            sequence(1, 50, 60 + i % 7, 80 + i % 3, *[83] * (i % 2), 2, trained=2 + i % 2),
            sequence(1, 50, 60 + i % 7, 90, 91, 2, trained=3),
        )
        other = tuple(sequence(*s.ids[:3], 95 + i % 2, 2, trained=2) for s in two)
        beside = other if unrelated else ()
        made.append(TrainingRow(two, id=f"ex-{i}", desirable=(True, False), beside=beside))
    return made


def settings(method: str, **values: Any) -> TrainConfig:
    common = {"rank": 4, "epochs": 2, "batch_size": 8, "device": "cpu", "threads": 1, "learning_rate": 0.01}
    return training_methods()[method].config.model_validate({**common, **values})


METHODS = [
    settings("sft"),
    settings("sft", micro_batch_tokens=16, dropout=0.1),
    settings("dpo", beta=0.3, sft_weight=0.5),
    settings("orpo"),
    settings("simpo", micro_batch_size=2),
    settings("kto"),
]


@pytest.mark.parametrize(
    "config", METHODS, ids=lambda c: f"{c.method}-{c.micro_batch_size}-{c.micro_batch_tokens}"
)
def test_the_shares_of_a_steps_rows_sum_to_its_loss(
    base: BaseModelInfo, tmp_path: Path, config: TrainConfig
) -> None:
    takes = method_of(config).takes
    rows = answers(22) if takes == "answers" else pairs(22, unrelated=config.method == "kto")
    data = TrainingRows(rows, rows[:4])
    done = train(base, tmp_path / "a", config=config, data=data, progress=Silent())  # type: ignore[arg-type]
    found = recorded_in(tmp_path / "a")
    assert found is not None
    assert sorted(set(found.step.tolist())) == list(range(1, 7))
    for log in done.history:
        step = found.of_step(log.step)
        assert len({row.id for row in step}) == len(step) == (8 if log.step % 3 else 6)
        assert sum(row.share for row in step) == pytest.approx(log.train_loss, rel=1e-5)
    for epoch in (found.row[:22], found.row[22:]):
        assert sorted(epoch.tolist()) == list(range(22))


def test_a_rows_loss_is_the_mean_over_its_own_tokens(base: BaseModelInfo, tmp_path: Path) -> None:
    """Against one row at a time: a step with a single row has that row's loss."""
    rows = answers(3)
    still = settings("sft", learning_rate=1e-9, batch_size=3, epochs=1)
    train(base, tmp_path / "a", config=still, data=TrainingRows(rows, []), progress=Silent())  # type: ignore[arg-type]
    together = {row.id: row.loss for row in recorded_in(tmp_path / "a").of_step(1)}  # type: ignore[union-attr]
    for i, row in enumerate(rows):
        alone = train(
            base,
            tmp_path / f"b{i}",
            config=still,
            data=TrainingRows([row], []),
            progress=Silent(),  # type: ignore[arg-type]
        )
        assert together[row.id] == pytest.approx(alone.history[0].train_loss, rel=1e-5)


@pytest.mark.parametrize("step", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 8))])
def test_a_kill_neither_doubles_nor_loses_a_step(base: BaseModelInfo, tmp_path: Path, step: int) -> None:
    data = TrainingRows(answers(44), answers(10))
    train(base, tmp_path / "whole", data=data, progress=Silent())
    with pytest.raises(Killed):
        train(base, tmp_path / "a", data=data, progress=KilledAt(step))
    begun = recorded_in(tmp_path / "a" / "checkpoints")
    assert begun is not None
    assert begun.step.max() == step  # what the killed process had computed can be looked at
    train(base, tmp_path / "a", data=data, progress=Silent())
    for one, other in zip(recorded_in(tmp_path / "a"), recorded_in(tmp_path / "whole"), strict=True):  # type: ignore[arg-type]
        assert np.array_equal(one, other)


def rows_of(step: int, *ids: str) -> list[RowLoss]:
    return [RowLoss(identity, float(step), 0.5) for identity in ids]


def test_what_a_kill_left_half_written_is_passed_over_and_cut_off(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, ["a", "b"])
    for step in (1, 2, 3):
        recorder.add(step, (), rows_of(step, "a", "b"))
    with (tmp_path / "row_losses.bin").open("ab") as stream:
        stream.write(b"\x04\0\0")
    found = recorded_in(tmp_path)
    assert found is not None
    assert found.step.tolist() == [1, 1, 2, 2, 3, 3]
    again = Recorder(tmp_path, ["a", "b"], step=2)
    again.add(3, (), rows_of(3, "b", "a"))
    assert again.read().of_step(3) == rows_of(3, "b", "a")
    assert again.read().step.tolist() == [1, 1, 2, 2, 3, 3]
    assert (tmp_path / "row_losses.bin").stat().st_size == 6 * 16


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[1, 2]", b"{}", None])
def test_a_recorder_whose_ids_are_damaged_begins_anew(tmp_path: Path, content: bytes | None) -> None:
    Recorder(tmp_path, ["a", "b"]).add(1, (), rows_of(1, "a"))
    if content is None:
        (tmp_path / "row_ids.json").unlink()
    else:
        (tmp_path / "row_ids.json").write_bytes(content)
    assert recorded_in(tmp_path) is None
    again = Recorder(tmp_path, ["a", "b"], step=1)
    again.add(2, (), rows_of(2, "b"))
    assert again.read().step.tolist() == [2]


def test_a_folder_without_a_recorder_has_none(tmp_path: Path) -> None:
    assert recorded_in(tmp_path) is None


def test_the_kept_file_is_small_and_any_tool_reads_it(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    ids = [f"ex-{i:016x}" for i in range(500)]
    recorder = Recorder(tmp_path / "c", ids)
    drawn = np.random.default_rng(0)
    for step in range(1, 301):
        rows = drawn.choice(500, 16, replace=False)
        recorder.add(step, (), [RowLoss(ids[i], *drawn.exponential(size=2)) for i in rows])
    recorder.keep(tmp_path)
    table = pq.read_table(tmp_path / RECORDER)
    assert table.column_names == ["step", "id", "loss", "share"]
    assert table.num_rows == 4800
    assert (tmp_path / RECORDER).stat().st_size < 16 * 4800
    kept, before = recorded_in(tmp_path), recorder.read()
    assert kept is not None
    assert kept.of_step(7) == before.of_step(7)


def test_a_lost_recorder_stops_no_training(base: BaseModelInfo, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(base, tmp_path / "a", progress=KilledAt(8))
    (tmp_path / "a" / "checkpoints" / "row_losses.bin").unlink()
    train(base, tmp_path / "a", config=CONFIG, progress=Silent())
    found = recorded_in(tmp_path / "a")
    assert found is not None
    assert sorted(set(found.step.tolist())) == [7, 8, 9, 10, 11, 12]
