"""An adapter is served exactly as PEFT would, or refused with every reason."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny.build import build_adapter, build_tiny
from tests.unit.serve.engines.embedded.conftest import EngineFactory, PeftReference
from tests.unit.serve.engines.embedded.prompts import prompt
from tunery.core.errors import ConfigError, NotFoundError
from tunery.model.peft_folder import read_peft_folder
from tunery.serve.engines.embedded.engine import EmbeddedEngine

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tiny_adapters: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of adapter a that a test may damage."""
    return Path(shutil.copytree(tiny_adapters["a"], tmp_path / "adapter"))


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder: Path, change: Change) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def any_shape(layer: str) -> tuple[int, int]:
    return (64, 64)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"use_dora": True}, "has only lora_A, lora_B"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [5]}, "trainable_token_indices"),
        ({"a_setting_of_the_future": 3}, "a_setting_of_the_future"),
        ({"r": 0}, "r=0"),
        ({"alpha_pattern": {"q_proj": "much"}}, "alpha_pattern"),
    ],
)
def test_what_this_engine_would_serve_wrongly_is_refused(
    make_engine: EngineFactory, folder: Path, changes: dict[str, Any], word: str
) -> None:
    change_config(folder, **changes)
    engine = make_engine()
    with pytest.raises(ConfigError, match=word):
        engine.load_adapter("x", str(folder))
    assert engine.adapters() == ("a", "b", "c")


def test_all_reasons_come_at_once(folder: Path) -> None:
    change_config(folder, modules_to_save=["lm_head"], bias="all")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ConfigError, match="3 problems") as refused:
        read_peft_folder(folder, any_shape)
    assert all(
        word in str(refused.value) for word in ("modules_to_save", "bias", "pickle", "adapter_model.bin")
    )


def test_missing_pieces_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        read_peft_folder(tmp_path / "nowhere", any_shape)
    (folder / "adapter_model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_peft_folder(folder, any_shape)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match="missing"):
        read_peft_folder(folder, any_shape)
    (folder / "adapter_config.json").write_text("[1")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_peft_folder(folder, any_shape)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ConfigError, match="no PEFT adapter"):
        read_peft_folder(folder, any_shape)


def test_an_adapter_of_another_base_is_refused_with_both_shapes(
    make_engine: EngineFactory, tmp_path: Path
) -> None:
    wide = build_tiny(tmp_path / "wide", hidden=96)
    other = build_adapter(wide, tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match="in the base, but the adapter's") as refused:
        make_engine().load_adapter("x", str(other))
    assert "64×64" in str(refused.value)
    assert " more" in str(refused.value).splitlines()[-2]


def test_damaged_weights_are_refused(make_engine: EngineFactory, folder: Path) -> None:
    def poison(weights: dict[str, Any]) -> None:
        next(iter(weights.values()))[0, 0] = float("nan")

    change_weights(folder, poison)
    with pytest.raises(ConfigError, match="NaN"):
        make_engine().load_adapter("x", str(folder))


def test_half_a_pair_and_foreign_weights_are_refused(make_engine: EngineFactory, folder: Path) -> None:
    def damage(weights: dict[str, Any]) -> None:
        weights.pop("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight")
        weights["base_model.model.lm_head.weight"] = torch.zeros(1)

    change_weights(folder, damage)
    with pytest.raises(ConfigError, match="only lora_A") as refused:
        make_engine().load_adapter("x", str(folder))
    assert "lm_head.weight is no LoRA matrix" in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
        {"r": 8, "lora_alpha": 16, "use_rslora": True, "target_modules": "all-linear"},
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": "all-linear",
            "rank_pattern": {"layers.0.mlp.up_proj": 2, "q_proj": 6},
            "alpha_pattern": {"layers.0.mlp.up_proj": 5, "q_proj": 3},
        },
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "lm_head"]},
    ],
    ids=["some layers", "rank-stabilised", "patterns", "output layer"],
)
def test_every_scaling_and_every_choice_of_layers_gives_pefts_tokens(
    tiny_model: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft on tied output layers
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        peft = get_peft_model(model, LoraConfig(**options))
        generator = torch.Generator().manual_seed(5)
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        peft.save_pretrained(tmp_path / "x", save_embedding_layers=False)
        reference = PeftReference(tiny_model, {"x": tmp_path / "x"})
    engine = EmbeddedEngine(tiny_model)
    try:
        engine.load_adapter("x", str(tmp_path / "x"))
        row = (prompt(20), prompt(12, seed=1))
        score = engine.score([row], "x")[0].logprob
        base = engine.score([row])[0].logprob
    finally:
        engine.close()
    logprobs = reference.logprobs([*row[0], *row[1]], "x")[19:-1]
    assert score == pytest.approx(sum(float(logprobs[i, t]) for i, t in enumerate(row[1])), abs=1e-4)
    assert abs(score - base) > 0.1
