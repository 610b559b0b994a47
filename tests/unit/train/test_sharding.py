"""Ranks that divide the weights among them train what one process trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from tests.ranks import losses_of, on_ranks
from tests.unit.train.test_ranks import DATA, PAIRS, SFT, SHAPE, Killed, close, history, rows, train
from tunery.core.errors import ConfigError
from tunery.core.training import ADAPTER_WEIGHTS, WHOLE_MODEL, BaseModelInfo
from tunery.model.bases import describe_base
from tunery.train.config import TrainConfig
from tunery.train.methods.dpo import DpoConfig
from tunery.train.methods.kto import KtoConfig
from tunery.train.methods.method import TrainingRows
from tunery.train.packed_state import unpacked_state
from tunery.train.ranks import Team
from tunery.train.sharding import gather, require_shardable, shard
from tunery.train.trainable import trainable_model
from tunery.train.trainer import PackedTrainer

FULL = SFT.model_copy(update={"adapter": "none", "learning_rate": 0.001})
LORA = SFT.model_copy(update={"learning_rate": 0.002})


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


def sharded(config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"sharding": "fsdp"})


def two_ranks(
    base: BaseModelInfo, tmp_path: Path, name: str, config: TrainConfig, **options: Any
) -> list[Any]:
    return on_ranks(
        tmp_path / f"ranks-{name}-{options.get('killed_at')}",
        2,
        lambda team: history(train(base, tmp_path / name, team, config=config, **options)),
    )


RECOMPUTED = {"gradient_checkpointing": True, "micro_batch_size": 1}


@pytest.mark.parametrize(
    ("config", "data"),
    [
        pytest.param(LORA, DATA, id="lora"),
        pytest.param(LORA.model_copy(update=RECOMPUTED), DATA, id="lora-recomputed", marks=pytest.mark.slow),
        pytest.param(
            LORA.model_copy(update={"batch_size": 1, "epochs": 1}),
            TrainingRows(rows(5), rows(1)),
            id="fewer-rows-than-ranks",
        ),
        pytest.param(FULL, DATA, id="full"),
        pytest.param(FULL.model_copy(update=RECOMPUTED), DATA, id="full-recomputed", marks=pytest.mark.slow),
        pytest.param(
            DpoConfig(**{**SHAPE, "adapter": "none", "learning_rate": 0.001}),
            PAIRS,
            id="full-dpo",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_sharded_ranks_give_the_losses_and_the_weights_of_one_process(
    base: BaseModelInfo, tmp_path: Path, config: TrainConfig, data: TrainingRows
) -> None:
    one = train(base, tmp_path / "one", config=config, data=data)
    two = losses_of(two_ranks(base, tmp_path, "two", sharded(config), data=data))
    close(two, history(one), within=1e-4)
    name = f"{WHOLE_MODEL}/model.safetensors" if config.adapter == "none" else ADAPTER_WEIGHTS
    alone, together = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
    assert alone.keys() == together.keys()
    for key, weight in alone.items():
        torch.testing.assert_close(together[key], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "config", [pytest.param(LORA, id="lora"), pytest.param(FULL, id="full", marks=pytest.mark.slow)]
)
def test_all_that_was_saved_is_there_after_a_resume_of_two_ranks(
    base: BaseModelInfo, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume that leaves any part of weights or optimizer as it began is seen, on whichever rank."""
    config = sharded(config.model_copy(update={"dropout": 0.0 if config.adapter == "none" else 0.1}))
    undisturbed = losses_of(two_ranks(base, tmp_path, "whole", config))
    assert "Killed" in two_ranks(base, tmp_path, "killed", config, killed_at=6)[0]
    saved = tmp_path / "killed" / "checkpoints" / "checkpoint-6"
    step = PackedTrainer.training_step

    def resume(team: Team) -> Any:
        found: list[Any] = []

        def look(self: PackedTrainer, *arguments: Any) -> torch.Tensor:
            if not found:
                found.append(differences(self, saved))
            return step(self, *arguments)

        monkeypatch.setattr(PackedTrainer, "training_step", look)
        gone_on = history(train(base, tmp_path / "killed", team, config=config))
        return [found[0], gone_on]

    resumed = on_ranks(tmp_path / "ranks-resumed", 2, resume)
    assert [different for different, _ in resumed] == [[], []]
    assert [gone_on for _, gone_on in resumed] == [undisturbed, undisturbed]  # to the last bit
    name = f"{WHOLE_MODEL}/model.safetensors" if config.adapter == "none" else ADAPTER_WEIGHTS
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def differences(trainer: PackedTrainer, saved: Path) -> list[str]:
    """Return the tensors that are not as a checkpoint has them, weights and optimizer's."""
    assert trainer.optimizer is not None
    whole = gather(trainer.model, trainer.optimizer, keep=True)
    weights = load_file(next(saved.glob("*model.safetensors")))
    now = {name.replace(".default", ""): tensor for name, tensor in whole.weights.items()}
    found = [name for name, tensor in weights.items() if not torch.equal(now[name], tensor)]
    with unpacked_state(saved) as folder:
        state = torch.load(folder / "optimizer.pt", weights_only=True)
    assert len(state["state"]) == sum(p.requires_grad for p in trainer.model.parameters())
    assert state["state"].keys() == whole.optimizer["state"].keys()
    for index, values in state["state"].items():
        ours = whole.optimizer["state"][index]
        assert values.keys() == ours.keys() >= {"step", "exp_avg", "exp_avg_sq"}
        found += [f"{index}.{name}" for name, value in values.items() if not torch.equal(ours[name], value)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("config", [LORA, FULL], ids=["lora", "full"])
def test_a_run_goes_on_sharded_and_not(base: BaseModelInfo, tmp_path: Path, config: TrainConfig) -> None:
    undisturbed = history(train(base, tmp_path / "one", config=config))
    assert "Killed" in two_ranks(base, tmp_path, "other", sharded(config), killed_at=3)[0]
    with pytest.raises(Killed):
        train(base, tmp_path / "other", config=config, killed_at=6)
    close(losses_of(two_ranks(base, tmp_path, "other", sharded(config))), undisturbed, within=1e-4)


@pytest.mark.slow
def test_the_best_of_sharded_ranks_is_kept_and_few_rows_are_tried_first(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    config = FULL.model_copy(
        update={
            "learning_rate": 0.03,
            "epochs": 9,
            "smoke": True,
            "early_stopping": None,
            "validation_every": 9,
            "schedule": "constant",
        }
    )
    config = config.model_copy(update={"divergence_factor": None})
    best = on_ranks(
        tmp_path / "ranks",
        2,
        lambda team: train(base, tmp_path / "two", team, config=sharded(config)).best_step,
    )
    assert best[0] == best[1]
    kept = load_file(tmp_path / "two" / WHOLE_MODEL / "model.safetensors")
    saved = load_file(tmp_path / "two" / "checkpoints" / f"checkpoint-{best[0]}" / "model.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in saved.items())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (KtoConfig(**SHAPE), "method kto"),
        (SFT.model_copy(update={"neftune_alpha": 5.0}), "neftune_alpha"),
        (FULL.model_copy(update={"generate_rows": 4}), "generate_rows"),
    ],
)
def test_what_ranks_cannot_compute_in_step_is_refused(config: TrainConfig, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        require_shardable(sharded(config))


def test_each_rank_holds_its_part_of_the_base_alone(base: BaseModelInfo, tmp_path: Path) -> None:
    def held(team: Team) -> list[int]:
        model = trainable_model(base, LORA, torch.device("cpu"))
        whole = sum(p.numel() for p in model.parameters() if not p.requires_grad)
        shard(model, torch.device("cpu"), team.size)
        parts = [p.to_local() for p in model.parameters() if isinstance(p, DTensor)]
        return [whole, sum(part.numel() for part in parts), sum(p.untyped_storage().nbytes() for p in parts)]

    (whole, first, stored), (_, second, _) = on_ranks(tmp_path / "ranks", 2, held)
    assert first + second == whole
    assert stored <= 4 * (whole / 2) * 1.05
