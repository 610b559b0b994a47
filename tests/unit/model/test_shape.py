"""Shapes read from configurations agree with the models themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunery.core.errors import ConfigError
from tunery.model.bases import describe_base
from tunery.model.shape import BaseShape, read_shape


def test_the_trunk_is_what_the_tiny_model_has_beside_its_embeddings(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    info = describe_base(tiny_model, name="tiny")
    shape = read_shape(tiny_model, parameters=info.parameters)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    layers = sum(p.numel() for n, p in model.named_parameters() if "embed" not in n)
    assert shape.trunk == layers
    assert shape.output == model.lm_head.weight.numel()
    assert shape.tied


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj"), ("down_proj",)])
@pytest.mark.parametrize("rank", [1, 8])
def test_adapter_weights_are_those_that_peft_trains(
    tiny_model: Path, rank: int, targets: str | tuple[str, ...]
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shape = read_shape(tiny_model, parameters=1)
    modules = targets if isinstance(targets, str) else list(targets)
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=rank, target_modules=modules)
    )
    trained = sum(p.numel() for p in peft.parameters() if p.requires_grad)
    assert shape.adapter(rank, targets) == trained  # type: ignore[arg-type]  # a plain string is all-linear


def test_published_sizes_of_a_known_model(tmp_path: Path) -> None:
    # SmolLM2-135M's published config.json, and the number of its weights.
    config = {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shape = read_shape(tmp_path, parameters=134_515_008)
    assert (shape.attention, shape.key_value) == (576, 192)
    # Per layer: queries and output 2 x 576², keys and values 2 x 576 x 192, feed-forward 3 x 576 x 1536, two
    # norms of 576; and one norm at the end.
    layer = 2 * 576**2 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
    assert shape.trunk == 30 * layer + 576


def test_older_names_are_understood(tmp_path: Path) -> None:
    config = {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shape = read_shape(tmp_path, parameters=124_439_808)
    assert (shape.layers, shape.hidden, shape.intermediate, shape.key_value) == (12, 768, 3072, 768)


def test_missing_sizes_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="4 problems"):
        read_shape(tmp_path, parameters=1)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_shape(tmp_path, parameters=1)


def test_an_untied_output_layer_is_no_part_of_the_trunk() -> None:
    shape = BaseShape(
        parameters=1000, layers=1, hidden=10, intermediate=20, attention=10, key_value=10, vocabulary=30,
        tied=False,
    )  # fmt: skip
    assert shape.trunk == 1000 - 2 * 300
