"""Weights as small integers with scales, in the layout that transformers and vLLM open: compressed-tensors.

Only the matrices of linear layers become integers, each rounded to the nearest step of its group; embeddings,
the output layer and norms stay as they are. Computation stays in floating point, so it saves memory and
bandwidth, and errs by the rounding alone.

Source:
    The ``pack-quantized`` format of compressed-tensors (github.com/vllm-project/compressed-tensors).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tunery.core.errors import ConfigError

Integers = Literal["int8", "int4"]
"""``int8``: a scale for each row of a matrix. ``int4``: one for each group of a row's values."""
INTEGERS: tuple[Integers, ...] = get_args(Integers)
_BITS: dict[Integers, int] = {"int8": 8, "int4": 4}
_GROUPS = (128, 64, 32, 16)
"""Sizes of a group, the first that divides every row is taken [values]."""
_STAYS = ("embed_tokens", "lm_head", "norm")
_WEIGHTS = "model.safetensors"
_WORD = 32


def to_integers(folder: Path, precision: Integers) -> None:
    """Turn the weights of a model's folder into integers, in place.

    Args:
        folder: Hugging Face folder with safetensors in floating point.
        precision: Of the integers.

    Raises:
        ConfigError: It has no matrix that may become integers, or is quantised already.
        OSError: It cannot be written.
    """
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise ConfigError(f"{folder} is quantised already", hint="export the version in another form first")
    bits = _BITS[precision]
    tensors = dict(_tensors(folder))
    chosen = [name for name, tensor in tensors.items() if _is_linear(name, tensor)]
    if not chosen:
        raise ConfigError(f"{folder} has no linear layers that could become {precision}")
    group = None if bits == 8 else _group(tensors[name].shape[1] for name in chosen)
    for name in chosen:
        stem = name.removesuffix(".weight")
        weight = tensors.pop(name)
        scale, values = _rounded(weight, bits, group)
        tensors[f"{stem}.weight_packed"] = _packed(values, bits)
        tensors[f"{stem}.weight_scale"] = scale
        tensors[f"{stem}.weight_shape"] = torch.tensor(weight.shape, dtype=torch.int64)
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / _WEIGHTS, metadata={"format": "pt"})
    config["quantization_config"] = _settings(bits, group)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def to_floats(folder: Path, target: Path) -> None:
    """Write a folder that :func:`to_integers` made in floating point again: what answers are computed from.

    Raises:
        OSError: It cannot be written.
    """
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
    path = target / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    weights = config.pop("quantization_config")["config_groups"]["group_0"]["weights"]
    tensors = dict(_tensors(folder))
    for name in [n for n in tensors if n.endswith(".weight_packed")]:
        stem = name.removesuffix("_packed")
        shape = tensors.pop(f"{stem}_shape").tolist()
        scale = tensors.pop(f"{stem}_scale")
        values = _unpacked(tensors.pop(name), weights["num_bits"], shape[1]).to(scale.dtype)
        tensors[stem] = (values.reshape(*scale.shape, -1) * scale[..., None]).reshape(shape)
    save_file({n: t.contiguous() for n, t in tensors.items()}, target / _WEIGHTS, metadata={"format": "pt"})
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118 - no mapping
                yield name, held.get_tensor(name)


def _is_linear(name: str, tensor: torch.Tensor) -> bool:
    floating = tensor.ndim == 2 and tensor.is_floating_point()
    return floating and name.endswith(".weight") and not any(part in name for part in _STAYS)


def _group(widths: Iterator[int]) -> int:
    """Return the size of a group."""
    every = set(widths)
    found = next((size for size in _GROUPS if all(width % size == 0 for width in every)), None)
    if found is None:
        raise ConfigError(
            f"rows of {', '.join(map(str, sorted(every)))} values hold no whole number of groups of "
            f"{_GROUPS[-1]}, so they cannot become int4",
            hint="--quantise int8",
        )
    return found


def _rounded(weight: torch.Tensor, bits: int, group: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scales, of shape ``(rows, groups)``, and whole numbers, of shape ``(rows, columns)``."""
    rows, columns = weight.shape
    parts = weight.float().reshape(rows, -1, group or columns)
    half = ((1 << bits) - 1) / 2
    scale = (parts.abs().amax(dim=2) / half).clamp(min=torch.finfo(torch.float32).tiny).to(weight.dtype)
    steps = (parts / scale.float()[..., None]).round().clamp(-(1 << bits - 1), (1 << bits - 1) - 1)
    return scale, steps.reshape(rows, columns).to(torch.int8)


def _packed(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Return whole numbers in words of 32 bits, the first of a row in the lowest bits of its first word."""
    each = _WORD // bits
    unsigned = values.to(torch.int64) + (1 << bits - 1)
    padded = torch.nn.functional.pad(unsigned, (0, -values.shape[1] % each))
    shifts = torch.arange(each, dtype=torch.int64) * bits
    words = (padded.reshape(values.shape[0], -1, each) << shifts).sum(dim=2)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _unpacked(words: torch.Tensor, bits: int, columns: int) -> torch.Tensor:
    shifts = torch.arange(_WORD // bits, dtype=torch.int64) * bits
    unsigned = (words.to(torch.int64)[..., None] >> shifts) & ((1 << bits) - 1)
    rows = unsigned.reshape(words.shape[0], -1)[:, :columns]
    return (rows - (1 << bits - 1)).to(torch.int8)


def _settings(bits: int, group: int | None) -> dict[str, Any]:
    weights = {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": "channel" if group is None else "group",
        "group_size": group,
        "dynamic": False,
        "actorder": None,
        "observer": "minmax",
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": None,
                "output_activations": None,
            }
        },
    }
