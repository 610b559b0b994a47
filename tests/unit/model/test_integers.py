"""Weights as integers: the nearest steps, in the published layout, and nothing but linear layers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tunery.core.errors import ConfigError
from tunery.model.integers import INTEGERS, Integers, to_floats, to_integers


def held(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    return found


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "whole"))


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8), ("int4", 4)])
def test_each_weight_is_at_most_half_a_step_from_what_it_was(
    folder: Path, tmp_path: Path, precision: Integers, bits: int
) -> None:
    before = held(folder)
    to_integers(folder, precision)
    packed = held(folder)
    to_floats(folder, tmp_path / "again")
    after = held(tmp_path / "again")
    assert after.keys() == before.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed
    assert all("_proj.weight" in name for name in changed)
    for name in changed:
        stem = name.removesuffix(".weight")
        scale = packed[f"{stem}.weight_scale"]
        step = scale.repeat_interleave(before[name].shape[1] // scale.shape[1], dim=1)
        assert ((before[name] - after[name]).abs() <= step * 0.5001).all()
        words = packed[f"{stem}.weight_packed"]
        assert (words.dtype, words.shape[1]) == (torch.int32, -(-before[name].shape[1] * bits // 32))
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert settings["format"] == "pack-quantized"
    assert "quantization_config" not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_words_hold_the_first_value_of_a_row_in_their_lowest_bits(folder: Path) -> None:
    """A decoder of its own, by the published layout: nibbles of little-endian words, shifted by eight."""
    name = "model.layers.0.self_attn.q_proj"
    weight = held(folder)[f"{name}.weight"]
    to_integers(folder, "int4")
    packed = held(folder)
    raw = packed[f"{name}.weight_packed"].numpy().tobytes()
    octets = np.frombuffer(raw, dtype=np.uint8)
    nibbles = np.stack([octets & 15, octets >> 4], axis=1).reshape(weight.shape[0], -1).astype(int) - 8
    scale = packed[f"{name}.weight_scale"].numpy()
    group = weight.shape[1] // scale.shape[1]
    expected = np.clip(np.rint(weight.numpy() / np.repeat(scale, group, axis=1)), -8, 7)
    assert (nibbles[:, : weight.shape[1]] == expected).all()
    assert packed[f"{name}.weight_shape"].tolist() == list(weight.shape)


@pytest.mark.parametrize("precision", INTEGERS)
def test_row_of_zeros_stays_zero(folder: Path, tmp_path: Path, precision: Integers) -> None:
    tensors = held(folder)
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    to_integers(folder, precision)
    to_floats(folder, tmp_path / "again")
    assert not held(tmp_path / "again")[name].any()


def test_what_cannot_become_integers_is_refused(folder: Path) -> None:
    to_integers(folder, "int8")
    with pytest.raises(ConfigError, match="quantised already"):
        to_integers(folder, "int8")
