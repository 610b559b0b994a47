"""What is trained: each kind equals a plain loop over transformers and PEFT, and comes out whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.unit.train.test_training import CONFIG, Killed, KilledAt, base, losses, row, train
from tunery.core.errors import ConfigError, DamagedError
from tunery.core.progress import Silent
from tunery.core.training import BaseModelInfo
from tunery.model.bases import describe_base
from tunery.train.config import TrainConfig, identity_settings
from tunery.train.methods.method import TrainingRows
from tunery.train.methods.sft import SftConfig
from tunery.train.trainable import trainable_model

__all__ = ["base"]

ROWS = [row(1, 50, 51, 60 + i, 70 + i % 3, 80 + i, 2, mask=(0, 0, 0, 0, 0, 1, 1)) for i in range(8)]
STEPS = 3
STILL: dict[str, Any] = {
    "rank": 4,
    "alpha": 8.0,
    "epochs": STEPS,
    "batch_size": len(ROWS),
    "warmup_ratio": 0.0,
    "schedule": "constant",
    "learning_rate": 0.01,
    "max_grad_norm": 1e9,
    "device": "cpu",
    "threads": 1,
    "early_stopping": None,
}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ALL, "task_type": "CAUSAL_LM"}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "lora": ({}, LORA),
    "rslora": ({"adapter": "rslora"}, {**LORA, "use_rslora": True}),
    "dora": ({"adapter": "dora"}, {**LORA, "use_dora": True}),
    "by name": ({"target_modules": ("q_proj", "v_proj")}, {**LORA, "target_modules": ["q_proj", "v_proj"]}),
    "by pattern": (
        {"target_modules": ("layers.1.*_proj", "down_proj")},
        {**LORA, "target_modules": r".*(layers\.1\..*_proj|down_proj)"},
    ),
    "modules to save": (
        {"modules_to_save": ("lm_head",), "merge": True},
        {**LORA, "modules_to_save": ["lm_head"], "ensure_weight_tying": True},
    ),
    "lora+": ({"lora_plus_ratio": 4.0}, LORA),
    "nf4": ({"quantization": "nf4"}, LORA),
    "full": ({"adapter": "none"}, None),
}


def plain_losses(folder: Path, kind: str) -> list[float]:
    """Train by a plain loop: transformers' attention, one padded batch, PyTorch's own loss."""
    settings, lora = KINDS[kind]
    quantized = (
        {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.float32,
            )
        }
        if "quantization" in settings
        else {}
    )
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **quantized)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(**lora)) if lora else model
    if lora:
        begin_alike(model)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    if "lora_plus_ratio" in settings:
        ratio = settings["lora_plus_ratio"]
        optimizer = create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=ratio, betas=(0.9, 0.999), eps=1e-8
        )
    else:
        optimizer = torch.optim.AdamW(trained, lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    sequences = [r.sequences[0] for r in ROWS]
    ids = torch.tensor([s.ids for s in sequences])
    labels = torch.where(torch.tensor([s.mask for s in sequences]).bool(), ids, -100)
    found = []
    for _ in range(STEPS):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()))
    return found


def begin_alike(model: torch.nn.Module) -> None:
    """Give every LoRA matrix weights that do not depend on the order in which layers were adapted."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                generator = torch.Generator().manual_seed(sum(map(ord, name.replace("default.", ""))))
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunery.train import training

    def started(*given: Any) -> torch.nn.Module:
        model = trainable_model(*given)
        begin_alike(model)
        return model

    monkeypatch.setattr(training, "trainable_model", started)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("alike")
def test_losses_equal_a_plain_loops(base: BaseModelInfo, tmp_path: Path, kind: str) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    config = SftConfig(**{**STILL, **KINDS[kind][0]})
    trained = train(base, tmp_path / "a", config=config, data=TrainingRows(ROWS, []), progress=Silent())
    found = [log.train_loss for log in trained.history]
    assert found == pytest.approx(plain_losses(Path(base.path), kind), abs=1e-4)
    assert found[-1] < found[0]  # type: ignore[operator]


def test_full_fine_tuning_killed_and_started_again_gives_the_same_model(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"adapter": "none", "learning_rate": 1e-3})
    whole = train(base, tmp_path / "a", config=config, progress=Silent())
    with pytest.raises(Killed):
        train(base, tmp_path / "b", config=config, progress=KilledAt(8))
    resumed = train(base, tmp_path / "b", config=config, progress=Silent())
    assert losses(resumed) == losses(whole)
    models = [tmp_path / name / "model" for name in "ab"]
    left = sorted(p.name for p in (tmp_path / "a").iterdir() if p.name != "checkpoints")
    assert left == ["model", "row_losses.parquet"]
    a, b = (load_file(folder / "model.safetensors") for folder in models)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    described = describe_base(models[0], name="tuned")
    assert described.parameters == base.parameters == whole.trainable_parameters
    assert {n for n in described.files if not n.endswith(".safetensors")} == {
        n for n in base.files if not n.endswith(".safetensors")
    }
    before = load_file(Path(base.path) / "model.safetensors")
    assert not any(torch.equal(a[name], before[name]) for name in a)


@pytest.mark.parametrize("kind", ["lora", "dora", "nf4", "modules to save"])
def test_a_merged_model_computes_what_base_and_adapter_do(
    base: BaseModelInfo, tmp_path: Path, kind: str
) -> None:
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    config = SftConfig(**{**STILL, **KINDS[kind][0], "merge": True})
    train(base, tmp_path / "a", config=config, data=TrainingRows(ROWS, []), progress=Silent())
    ids = torch.tensor([r.sequences[0].ids for r in ROWS])
    plain = AutoModelForCausalLM.from_pretrained(base.path)
    adapted = PeftModel.from_pretrained(plain, str(tmp_path / "a")).eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "model").eval()
    with torch.no_grad():
        logits = merged(ids).logits
        assert torch.allclose(logits, adapted(ids).logits, atol=1e-5)
        with adapted.disable_adapter():
            assert not torch.allclose(logits, adapted(ids).logits, atol=1e-3)


def test_a_second_full_fine_tuning_begins_with_the_weights_of_the_first(
    base: BaseModelInfo, tmp_path: Path
) -> None:
    from tunery.train.reporting import Reporting
    from tunery.train.training import Folders, train_adapter

    config = SftConfig(**{**STILL, "adapter": "none"})
    train(base, tmp_path / "a", config=config, data=TrainingRows(ROWS, []), progress=Silent())
    (tmp_path / "b").mkdir()
    folders = Folders(tmp_path / "b", tmp_path / "b" / "checkpoints", start=tmp_path / "a")
    slow = config.model_copy(update={"learning_rate": 1e-12})
    rows = TrainingRows(ROWS, [])
    train_adapter(base, rows, config=slow, folders=folders, reporting=Reporting(Silent()))
    a, b = (load_file(tmp_path / n / "model" / "model.safetensors") for n in "ab")
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-9
    damaged = a | {"model.norm.weight": a["model.norm.weight"][:3].clone()}
    from safetensors.torch import save_file

    save_file(damaged, tmp_path / "a" / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DamagedError, match="another shape"):
        train_adapter(base, rows, config=slow, folders=folders, reporting=Reporting(Silent()))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"adapter": "none", "quantization": "nf4"}, "four bits cannot be trained"),
        ({"target_modules": ["layers.9*"]}, "fits no linear layer"),
        ({"modules_to_save": ["head"], "merge": True}, "no module head"),
        ({"start_from": {"method": "sft", "merge": True}}, "only the last training's adapter is merged"),
    ],
)
def test_what_could_not_be_trained_or_served_is_refused(
    base: BaseModelInfo, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    def begin() -> None:
        config = SftConfig.model_validate({**STILL, **settings})
        train(base, tmp_path / "a", config=config, data=TrainingRows(ROWS, []), progress=Silent())

    with pytest.raises((ConfigError, ValueError), match=told):
        begin()


def test_settings_of_adapters_are_no_part_of_what_full_fine_tuning_is() -> None:
    def identity(**settings: Any) -> str:
        return json.dumps(identity_settings(SftConfig.model_validate(settings)), sort_keys=True)

    assert identity(adapter="none", rank=8, dropout=0.1) == identity(adapter="none")
    assert identity(rank=8) != identity()
    assert "neftune_alpha" not in identity()  # as before there was this
    assert "label_smoothing" not in identity()
    assert len({identity(), identity(neftune_alpha=5), identity(label_smoothing=0.1)}) == 3
    assert identity(quantization="nf4") != identity()
    assert SftConfig.model_validate({"adapter": "none"}).learning_rate == pytest.approx(1e-4)
    assert SftConfig.model_validate({"adapter": "none", "learning_rate": 0.5}).learning_rate == 0.5
    both: TrainConfig = SftConfig.model_validate({"adapter": "none", "start_from": {"method": "sft"}})
    assert both.start_from is not None
    assert (both.start_from.adapter, both.start_from.learning_rate) == ("none", pytest.approx(1e-4))
