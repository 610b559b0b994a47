"""Training: resumed equals undisturbed, accumulated equals whole, and what comes out opens in plain PEFT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tunery.core.errors import ConfigError, DamagedError, ResourceError
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model.bases import describe_base
from tunery.model.render import Rendered
from tunery.model.shape import read_shape
from tunery.train import checkpoints
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.sft import SftConfig
from tunery.train.reporting import Reporting
from tunery.train.training import Folders, Trained, train_adapter


class Killed(Exception):  # noqa: N818 - an event, not a malfunction
    """Stands for a process that ends at this point."""


class KilledAt(Silent):
    def __init__(self, step: int) -> None:
        self.step = step

    def event(self, message: str, *, level: Any = "info", data: Mapping[str, Any] | None = None) -> None:
        if data and data["step"] == self.step:
            raise Killed


def killed_when_sealed(step: int) -> Any:
    """Die right after the checkpoint of a step is complete on disk."""

    def die(sealed: int, losses: Mapping[str, float]) -> None:
        if sealed == step:
            raise Killed

    return die


def row(*ids: int, mask: tuple[int, ...], prompt_mask: tuple[int, ...] = ()) -> TrainingRow:
    return TrainingRow((Rendered(ids, mask, mask.index(1), prompt_mask),))


def rows(count: int, *, mask: tuple[int, ...] = (0, 0, 0, 0, 0, 1, 1), **masks: Any) -> list[TrainingRow]:
    return [row(1, 50, 51, 60 + i % 7, 70 + i % 5, 80 + i % 3, 2, mask=mask, **masks) for i in range(count)]


DATA = TrainingRows(rows(44), rows(10))
CONFIG = SftConfig(
    rank=4,
    epochs=2,
    batch_size=8,
    validation_every=3,
    dropout=0.1,
    device="cpu",
    threads=1,
    learning_rate=0.01,
)


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> BaseModelInfo:
    return describe_base(tiny_model, name="tiny")


def train(base: BaseModelInfo, folder: Path, *, config: TrainConfig = CONFIG, **options: Any) -> Trained:
    folder.mkdir(exist_ok=True)
    folders = Folders(folder, folder / "checkpoints")
    return train_adapter(
        base, options.pop("data", DATA), config=config, folders=folders, reporting=Reporting(**options)
    )


def losses(trained: Trained) -> list[tuple[int, float | None, float | None]]:
    return [(h.step, h.train_loss, h.validation_loss) for h in trained.history]


@pytest.fixture(scope="module")
def undisturbed(base: BaseModelInfo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("whole") / "a"
    return train(base, folder, progress=Silent()), folder


def test_training_lowers_the_loss(undisturbed: tuple[Trained, Path]) -> None:
    history = undisturbed[0].history
    assert history[-1].train_loss is not None
    assert history[0].train_loss is not None
    assert history[-1].train_loss < 0.8 * history[0].train_loss


@pytest.mark.parametrize("step", [2, 3, 8])
def test_killed_and_started_again_gives_the_losses_and_weights_of_an_undisturbed_run(
    base: BaseModelInfo, undisturbed: tuple[Trained, Path], tmp_path: Path, step: int
) -> None:
    folder = tmp_path / "a"
    with pytest.raises(Killed):
        train(base, folder, progress=KilledAt(step))
    resumed = train(base, folder, progress=Silent())
    assert losses(resumed) == losses(undisturbed[0])
    weights = "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (undisturbed[1] / weights).read_bytes()


@pytest.mark.parametrize("kind", ["rslora", "dora"])
def test_other_kinds_of_adapters_are_trained_resumed_and_counted_alike(
    base: BaseModelInfo, tmp_path: Path, kind: Literal["rslora", "dora"]
) -> None:
    config = CONFIG.model_copy(update={"adapter": kind})
    whole = train(base, tmp_path / "a", config=config, progress=Silent())
    with pytest.raises(Killed):
        train(base, tmp_path / "b", config=config, progress=KilledAt(8))
    resumed = train(base, tmp_path / "b", config=config, progress=Silent())
    assert losses(resumed) == losses(whole)
    weights, about = (tmp_path / "b" / name for name in ("adapter_model.safetensors", "adapter_config.json"))
    assert weights.read_bytes() == (tmp_path / "a" / weights.name).read_bytes()
    written = json.loads(about.read_text(encoding="utf-8"))
    assert (written["use_rslora"], written["use_dora"]) == (kind == "rslora", kind == "dora")
    shape = read_shape(Path(base.path), parameters=base.parameters)
    expected = shape.adapter(config.rank, "all-linear", magnitudes=kind == "dora")
    assert whole.trainable_parameters == expected
    assert whole.history[-1].train_loss < 0.8 * whole.history[0].train_loss  # type: ignore[operator]


def test_an_adapter_is_two_files_that_peft_knows_and_the_flight_recorder(
    undisturbed: tuple[Trained, Path],
) -> None:
    assert sorted(p.name for p in undisturbed[1].iterdir() if p.is_file()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "row_losses.parquet",
    ]


def test_accumulated_micro_batches_equal_one_big_batch(base: BaseModelInfo, tmp_path: Path) -> None:
    still = CONFIG.model_copy(update={"dropout": 0.0})
    uneven = [*rows(10), *[row(1, 50, 51, 52, mask=(0, 1, 1, 1))] * 6]
    data = TrainingRows(uneven, [])
    whole = train(base, tmp_path / "a", config=still, data=data, progress=Silent())
    parts = train(
        base,
        tmp_path / "b",
        config=still.model_copy(update={"micro_batch_size": 2}),
        data=data,
        progress=Silent(),
    )
    for one, other in zip(whole.history, parts.history, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-4)


def test_prompt_tokens_count_with_their_weight_whatever_the_micro_batch(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    still = CONFIG.model_copy(update={"dropout": 0.0, "prompt_loss_weight": 0.5, "learning_rate": 1e-9})
    some, few = (0, 0, 1, 1, 1, 0, 0), (0, 1, 0, 0)
    both = [*rows(16, prompt_mask=some), *[row(1, 50, 51, 52, mask=(0, 0, 1, 1), prompt_mask=few)] * 8]
    first = {}
    for name, data, config in (
        ("both", both, still),
        ("in parts", both, still.model_copy(update={"micro_batch_size": 2})),
        ("by tokens", both, still.model_copy(update={"micro_batch_tokens": 16})),
        ("completions", [*rows(16), *[row(1, 50, 51, 52, mask=(0, 0, 1, 1))] * 8], still),
        ("prompts", [*rows(16, mask=some), *[row(1, 50, 51, 52, mask=few)] * 8], still),
    ):
        done = train(base, tmp_path / name, config=config, data=TrainingRows(data, []), progress=Silent())
        first[name] = [h.train_loss for h in done.history]
    for whole, parts, by_tokens, completions, prompts in zip(*first.values(), strict=True):
        assert whole == pytest.approx(parts, rel=1e-4)
        assert whole == pytest.approx(by_tokens, rel=1e-4)
        assert whole == pytest.approx(completions + 0.5 * prompts, rel=1e-4)


def test_the_adapter_opens_in_plain_peft_and_changes_the_model(
    undisturbed: tuple[Trained, Path], tiny_model: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([DATA.train[0].sequences[0].ids[:5]])
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = plain(ids).logits[0, -1]
    tuned = PeftModel.from_pretrained(plain, undisturbed[1])(ids).logits[0, -1]
    wanted = DATA.train[0].sequences[0].ids[5]
    assert tuned.log_softmax(-1)[wanted] > before.log_softmax(-1)[wanted] + 1


def test_the_best_step_is_the_one_with_the_lowest_validation_loss(undisturbed: tuple[Trained, Path]) -> None:
    validated = {h.step: h.validation_loss for h in undisturbed[0].history if h.validation_loss is not None}
    assert validated[undisturbed[0].best_step] == min(validated.values())


def opposite(count: int) -> list[TrainingRow]:
    """Validation rows that want what training unlearns: their loss is lowest early."""
    given = [r.sequences[0] for r in rows(count)]
    return [row(*r.ids[:5], 99, 2, mask=r.mask) for r in given]


def test_the_last_step_is_kept_where_the_settings_say_so(base: BaseModelInfo, tmp_path: Path) -> None:
    best = train(base, tmp_path / "best", config=WORSE, data=WORSE_DATA, progress=Silent())
    kept_last = WORSE.model_copy(update={"keep": "last"})
    last = train(base, tmp_path / "last", config=kept_last, data=WORSE_DATA, progress=Silent())
    assert losses(best) == losses(last)
    assert best.best_step < last.best_step == last.steps
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("best", "last")]
    assert weights[0] != weights[1]


def test_training_stops_early_when_validation_gets_worse(base: BaseModelInfo, tmp_path: Path) -> None:
    config = CONFIG.model_copy(
        update={"epochs": 20.0, "early_stopping": 2, "validation_every": 4, "learning_rate": 0.03}
    )
    data = TrainingRows(rows(44), opposite(10))
    trained = train(base, tmp_path / "a", config=config, data=data, progress=Silent())
    assert trained.steps < config.total_steps(44)
    worst = [h.step for h in trained.history if h.validation_loss is not None]
    for step in worst[-2:]:  # killed with patience partly spent, and with all of it spent
        folder = tmp_path / f"killed-{step}"
        with pytest.raises(Killed):
            train(
                base,
                folder,
                config=config,
                data=data,
                progress=Silent(),
                on_checkpoint=killed_when_sealed(step),
            )
        resumed = train(base, folder, config=config, data=data, progress=Silent())
        assert losses(resumed) == losses(trained)
        weights = "adapter_model.safetensors"
        assert (folder / weights).read_bytes() == (tmp_path / "a" / weights).read_bytes()


def test_a_request_to_stop_keeps_the_checkpoints(base: BaseModelInfo, tmp_path: Path) -> None:
    sealed: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train(
            base,
            tmp_path / "a",
            progress=Silent(),
            should_stop=lambda: len(sealed) == 2,
            on_checkpoint=lambda step, _: sealed.append(step),
        )
    assert sealed == [3, 6, 7]
    assert (tmp_path / "a" / "checkpoints" / "checkpoint-7" / "manifest.json").exists()
    resumed = train(base, tmp_path / "a", progress=Silent())
    assert [h.step for h in resumed.history] == list(range(1, 13))


def test_a_loss_that_is_no_number_ends_training_with_advice(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "base"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ResourceError, match="became nan at step 1") as caught:
        train(describe_base(broken, name="broken"), tmp_path / "a", progress=Silent())
    assert "train.learning_rate=0.001" in str(caught.value)


def test_target_modules_that_fit_nothing_name_those_that_exist(base: BaseModelInfo, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"target_modules": ("query",)})
    with pytest.raises(ConfigError, match="'query' fits no linear layer") as caught:
        train(base, tmp_path / "a", config=config, progress=Silent())
    assert "q_proj" in str(caught.value)


def test_a_micro_batch_must_divide_the_batch() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        SftConfig(batch_size=16, micro_batch_size=5)


class Heard(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def event(self, message: str, *, level: Any = "info", data: Mapping[str, Any] | None = None) -> None:
        if level == "warn":
            self.told.append(message)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


WORSE = CONFIG.model_copy(
    update={"epochs": 2.0, "early_stopping": None, "validation_every": 2, "learning_rate": 0.1}
)
WORSE_DATA = TrainingRows(rows(24), opposite(10))
"""The first validation is the best one: the more is learnt, the worse."""


@pytest.fixture(scope="module")
def worse(base: BaseModelInfo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("worse") / "a"
    trained = train(base, folder, config=WORSE, data=WORSE_DATA, progress=Silent())
    assert trained.best_step == 2
    return trained, folder


@pytest.mark.parametrize(
    ("lost", "name"),
    [
        ("newest", "adapter_model.safetensors"),
        ("newest", "optimizer.pt.zst"),
        ("newest", None),
        ("best", "adapter_model.safetensors"),
        ("best", "history.json"),
        ("best", None),
        ("both", "trainer_state.json"),
    ],
)
def test_damaged_checkpoints_are_told_and_change_neither_losses_nor_weights(
    base: BaseModelInfo, worse: tuple[Trained, Path], tmp_path: Path, lost: str, name: str | None
) -> None:
    folder = tmp_path / "a"
    with pytest.raises(Killed):
        train(
            base,
            folder,
            config=WORSE,
            data=WORSE_DATA,
            on_checkpoint=killed_when_sealed(4),
            progress=Silent(),
        )
    steps = checkpoints.steps_in(folder / "checkpoints")
    assert steps == [2, 4]
    for step in {"newest": steps[1:], "best": steps[:1], "both": steps}[lost]:
        checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
        if name:
            spoil(checkpoint / name)
        else:
            shutil.rmtree(checkpoint)
    heard = Heard()
    resumed = train(base, folder, config=WORSE, data=WORSE_DATA, progress=heard)
    assert losses(resumed) == losses(worse[0])
    assert resumed.best_step == 2
    weights = "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (worse[1] / weights).read_bytes()
    if name or lost == "best":
        assert "is left out" in heard.told[0]


def test_a_best_checkpoint_that_is_lost_while_training_runs_is_never_replaced_by_other_weights(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    folder = tmp_path / "a"

    def lose(step: int, losses: Mapping[str, float]) -> None:
        if step == 4:
            spoil(folder / "checkpoints" / "checkpoint-2" / "adapter_model.safetensors")

    with pytest.raises(DamagedError, match=r"adapter_model\.safetensors is not what was written"):
        train(base, folder, config=WORSE, data=WORSE_DATA, on_checkpoint=lose, progress=Silent())
    assert not (folder / "adapter_model.safetensors").exists()
