"""Several ranks train what one process trains: losses, adapter, resume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.ranks import losses_of, on_ranks
from tunery.core.progress import Silent
from tunery.core.training import ADAPTER_WEIGHTS, BaseModelInfo
from tunery.model import packing
from tunery.model.bases import describe_base
from tunery.model.render import Rendered
from tunery.train.config import TrainConfig
from tunery.train.methods.dpo import DpoConfig
from tunery.train.methods.kto import KtoConfig
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.sft import SftConfig
from tunery.train.ranks import ALONE, Team
from tunery.train.recorder import recorded_in
from tunery.train.reporting import Reporting
from tunery.train.training import Folders, Trained, train_adapter

SHAPE: Mapping[str, Any] = {
    "rank": 4,
    "epochs": 2,
    "batch_size": 8,
    "validation_every": 3,
    "device": "cpu",
    "threads": 1,
    "learning_rate": 0.01,
    "smoke": False,
}
SFT = SftConfig(**SHAPE)


def answer(i: int, length: int) -> Rendered:
    ids = (1, 50, 51, 60 + i % 7, 70 + i % 5, 80 + i % 3, *range(90, 90 + length), 2)
    return Rendered(ids, (0,) * 6 + (1,) * (length + 1), 6, ())


def rows(count: int) -> list[TrainingRow]:
    return [TrainingRow((answer(i, i % 4),), id=str(i)) for i in range(count)]


def pairs(count: int) -> list[TrainingRow]:
    return [
        TrainingRow(
            (answer(i, i % 4), answer(i, 4 + i % 3)),
            id=str(i),
            desirable=(True, False),
            beside=(answer(i, 1 + i % 2), answer(i, 5)),
        )
        for i in range(count)
    ]


DATA = TrainingRows(rows(44), rows(10))
PAIRS = TrainingRows(pairs(21), pairs(5))


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


class Killed(Exception):  # noqa: N818 - an event, not a malfunction
    """Stands for a process that ends at this point."""


def train(
    base: BaseModelInfo,
    folder: Path,
    team: Team = ALONE,
    *,
    config: TrainConfig = SFT,
    data: TrainingRows = DATA,
    killed_at: int | None = None,
) -> Trained:
    """Train; ranks that are killed die once the checkpoint of a step is complete."""

    def die(step: int, losses: Mapping[str, float]) -> None:
        if step == killed_at:
            raise Killed

    folder.mkdir(exist_ok=True)
    folders = Folders(folder, folder / "checkpoints")
    reporting = Reporting(Silent(), on_checkpoint=die)
    return train_adapter(base, data, config=config, folders=folders, reporting=reporting, team=team)


def history(trained: Trained) -> list[list[Any]]:
    return [[h.step, h.train_loss, h.validation_loss, h.grad_norm] for h in trained.history]


def close(one: list[list[Any]], other: list[list[Any]], *, within: float) -> None:
    assert len(one) == len(other)
    for ours, theirs in zip(one, other, strict=True):
        assert [v is None for v in ours] == [v is None for v in theirs]
        assert [v for v in ours if v is not None] == pytest.approx(
            [v for v in theirs if v is not None], rel=within, abs=within
        )


@pytest.mark.parametrize(
    ("config", "data"),
    [(SFT, DATA), (DpoConfig(**SHAPE), PAIRS), (KtoConfig(**SHAPE), PAIRS)],
    ids=["sft", "dpo", "kto"],
)
def test_two_ranks_give_the_losses_the_adapter_and_the_record_of_one(
    base: BaseModelInfo, tmp_path: Path, config: TrainConfig, data: TrainingRows
) -> None:
    one = train(base, tmp_path / "one", config=config, data=data)
    two = losses_of(
        on_ranks(
            tmp_path / "ranks",
            2,
            lambda team: history(train(base, tmp_path / "two", team, config=config, data=data)),
        )
    )
    close(two, history(one), within=1e-5)
    alone, together = (load_file(tmp_path / name / ADAPTER_WEIGHTS) for name in ("one", "two"))
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-3, atol=1e-4)
    record, shared = recorded_in(tmp_path / "one"), recorded_in(tmp_path / "two")
    assert record is not None
    assert shared is not None
    for step in (1, one.steps):
        of_one, of_two = ({r.id: r.loss for r in each.of_step(step)} for each in (record, shared))
        assert of_two == pytest.approx(of_one, abs=1e-4)


def test_more_ranks_than_rows_of_a_step_give_the_losses_of_one(base: BaseModelInfo, tmp_path: Path) -> None:
    config = SFT.model_copy(update={"batch_size": 2, "epochs": 1})
    data = TrainingRows(rows(5), rows(2))
    one = train(base, tmp_path / "one", config=config, data=data)
    three = losses_of(
        on_ranks(
            tmp_path / "ranks",
            3,
            lambda team: history(train(base, tmp_path / "three", team, config=config, data=data)),
        )
    )
    close(three, history(one), within=1e-5)


def test_ranks_that_were_killed_go_on_to_the_last_bit_with_dropout(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    config = SFT.model_copy(update={"dropout": 0.1})

    def go(name: str, killed_at: int | None = None) -> list[Any]:
        return on_ranks(
            tmp_path / f"ranks-{name}-{killed_at}",
            2,
            lambda team: history(train(base, tmp_path / name, team, config=config, killed_at=killed_at)),
        )

    undisturbed = losses_of(go("whole"))
    assert "Killed" in go("killed", 6)[0]
    assert losses_of(go("killed")) == undisturbed
    weights = [(tmp_path / name / ADAPTER_WEIGHTS).read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


def test_a_run_goes_on_with_another_number_of_ranks(base: BaseModelInfo, tmp_path: Path) -> None:
    undisturbed = history(train(base, tmp_path / "one"))
    killed = on_ranks(
        tmp_path / "ranks-a", 2, lambda team: history(train(base, tmp_path / "other", team, killed_at=3))
    )
    assert "Killed" in killed[0]
    killed = on_ranks(
        tmp_path / "ranks-b", 3, lambda team: history(train(base, tmp_path / "other", team, killed_at=6))
    )
    assert "Killed" in killed[0]
    close(history(train(base, tmp_path / "other")), undisturbed, within=1e-5)


def test_a_rank_without_memory_computes_smaller_forwards_and_the_step_stays_what_it_was(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    one = history(train(base, tmp_path / "one"))
    whole = packing.target_logits

    def work(team: Team) -> Any:
        failed: list[int] = []

        def short_of_memory(model: Any, batch: packing.Packed, **options: Any) -> torch.Tensor:
            logits = whole(model, batch, **options)
            if team.rank == 1 and batch.input_ids.shape[1] > 12:
                failed.append(batch.input_ids.shape[1])
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return logits

        packing.target_logits = short_of_memory  # this process is the rank's own
        trained = history(train(base, tmp_path / "two", team))
        return [trained, len(failed)]

    (first, none), (second, some) = on_ranks(tmp_path / "ranks", 2, work)
    assert none == 0
    assert some > 0
    assert first == second
    close(first, one, within=1e-5)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_every_row_is_one_ranks_and_shares_are_even(size: int) -> None:
    some = rows(50)
    shares = [Team(rank, size).share(some) for rank in range(size)]
    assert sorted(i for share in shares for i in share) == list(range(50))
    tokens = [sum(some[i].tokens for i in share) for share in shares]
    assert max(tokens) - min(tokens) <= 2 * max(row.tokens for row in some)
