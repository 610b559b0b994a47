"""Read a PEFT LoRA folder: what it adapts, checked against the base, or every reason why not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.training import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_PREFIX = "base_model.model."
_KEY = re.compile(
    r"^base_model\.model\.(?P<layer>.+)\.lora_(?P<side>[AB]|magnitude_vector)(?:\.(?:[^.]+\.)?weight)?$"
)
_MAGNITUDE = "magnitude_vector"

# Settings of PEFT that leave the served sum at scaling * B(A(x)), or say nothing about it.
_HARMLESS = frozenset(
    {
        "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "eva_config",
        "exclude_modules", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform",
        "loftq_config", "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_core", "peft_type",
        "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
        "target_modules", "task_type", "use_dora", "use_rslora",
    }
)  # fmt: skip
# Initialisations that change the base weights as well: the adapter alone does not reproduce the model.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class LoraPair(NamedTuple):
    """One adapter's matrices for one linear layer."""

    down: torch.Tensor
    """``A``, shape ``(rank, in_features)``."""
    up: torch.Tensor
    """``B`` times the scaling, shape ``(out_features, rank)``."""
    magnitude: torch.Tensor | None = None
    """Length that DoRA gives each row of ``W + B·A``, shape ``(out_features,)``; None for plain LoRA."""


def read_peft_folder(folder: Path, shape_of: Callable[[str], tuple[int, int] | None]) -> dict[str, LoraPair]:
    """Read the matrices of a LoRA adapter, scaling folded into ``B``.

    Args:
        folder: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        shape_of: Returns ``(out_features, in_features)`` of a linear layer of the base, None when unknown.

    Returns:
        Layer name to matrices, in float32 or as stored.

    Raises:
        NotFoundError: There is no such folder.
        ConfigError: Another kind of adapter, no safetensors, or another base; lists all reasons.
    """
    if not folder.is_dir():
        raise NotFoundError(f"no adapter folder {folder}", hint="tunery registry ls")
    config = _read_config(folder)
    problems = config_problems(config)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        pickles = sorted(p.name for p in folder.glob("*.bin"))
        problems.append(
            f"its weights are a pickle ({', '.join(pickles)}), which is never loaded; "
            f"save them as {ADAPTER_WEIGHTS}"
            if pickles
            else f"{ADAPTER_WEIGHTS} is missing"
        )
    if problems:
        raise ConfigError.of_problems(f"adapter {folder}", problems)
    return _pairs(folder, config, _load(folder / ADAPTER_WEIGHTS), shape_of)


def shapes_in(base: Path) -> Callable[[str], tuple[int, int] | None]:
    """Return what tells the shapes of a base's linear layers, read from its folder alone.

    Args:
        base: Hugging Face folder with safetensors.
    """
    from safetensors import safe_open

    shapes: dict[str, tuple[int, int]] = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a dict
                shape = weights.get_slice(name).get_shape()
                if name.endswith(".weight") and len(shape) == 2:
                    shapes[name.removesuffix(".weight")] = (shape[0], shape[1])
    return shapes.get


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"adapter {folder}: {ADAPTER_CONFIG} is missing, so this is no PEFT adapter"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"adapter {folder}: {ADAPTER_CONFIG} cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise ConfigError(f"adapter {folder}: {ADAPTER_CONFIG} must hold an object")
    return config


def config_problems(config: Mapping[str, Any]) -> list[str]:
    """Return why an adapter's configuration says more than ``scaling * B(A(x))``, a sentence each."""
    kind = config.get("peft_type")
    if kind != "LORA":
        return [f"its type is {kind!r}; this engine serves LORA only"]
    problems = []
    if config.get("modules_to_save"):
        problems.append(
            f"it carries whole layers (modules_to_save={config['modules_to_save']}); "
            "merge it into a base instead"
        )
    if config.get("bias", "none") != "none":
        problems.append(f"it trains biases (bias={config['bias']!r})")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        problems.append(f"init_lora_weights={init!r} changed the base weights too; convert it to plain LoRA")
    known = _HARMLESS | {"modules_to_save"}
    problems += [
        f"setting {key}={value!r:.60} is not one this engine serves"
        for key, value in sorted(config.items())
        if key not in known and value not in (None, False, [], {}, "")
    ]
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), (int, float)) or config[key] <= 0:
            problems.append(f"{key}={config.get(key)!r} is not a positive number")
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            problems.append(f"{key} must map layer names to numbers")
    return problems


def _load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # Copied: they are views of the mapped file, and whoever writes to it would change what answers.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"adapter {path.parent}: {path.name} cannot be read ({error})") from None


def _pairs(
    folder: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    shape_of: Callable[[str], tuple[int, int] | None],
) -> dict[str, LoraPair]:
    sides: dict[str, dict[str, torch.Tensor]] = {}
    problems = []
    for key, weight in weights.items():
        found = _KEY.match(key)
        if found is None:
            problems.append(f"weight {key} is no LoRA matrix of a linear layer")
        elif not torch.isfinite(weight).all():
            problems.append(f"weight {key} holds NaN or infinity")
        else:
            sides.setdefault(found["layer"], {})[found["side"]] = weight
    pairs = {}
    for layer, pair in sides.items():
        problem = _shape_problem(layer, pair, shape_of(layer), dora=bool(config.get("use_dora")))
        if problem:
            problems.append(problem)
        else:
            up = pair["B"] * _scaling(config, layer, pair["A"].shape[0])
            pairs[layer] = LoraPair(pair["A"], up, pair.get(_MAGNITUDE))
    if not sides and not problems:
        problems.append("it holds no weights")
    if problems:
        raise ConfigError.of_problems(
            f"adapter {folder}", problems, limit=8, hint="check which base it was trained on"
        )
    return pairs


def _shape_problem(
    layer: str, pair: Mapping[str, torch.Tensor], shape: tuple[int, int] | None, *, dora: bool
) -> str | None:
    if set(pair) != ({"A", "B", _MAGNITUDE} if dora else {"A", "B"}):
        return f"{layer} has only {', '.join(f'lora_{side}' for side in sorted(pair))}"
    if shape is None:
        return f"the base has no linear layer {layer}"
    down, up = pair["A"], pair["B"]
    if (
        down.dim() != 2
        or up.dim() != 2
        or (up.shape[0], down.shape[1]) != shape
        or up.shape[1] != down.shape[0]
    ):
        return (
            f"{layer} is {shape[0]}×{shape[1]} in the base, but the adapter's B·A is "
            f"{tuple(up.shape)}·{tuple(down.shape)}"
        )
    if dora and pair[_MAGNITUDE].shape != shape[:1]:
        return f"{layer} has {shape[0]} rows in the base, but {tuple(pair[_MAGNITUDE].shape)} magnitudes"
    return None


def _scaling(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """Return alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA (Kalajdzievski 2023, eq. 3)."""
    alpha = float(_of_layer(config.get("alpha_pattern") or {}, layer, config["lora_alpha"]))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _of_layer(pattern: Mapping[str, Any], layer: str, default: float) -> float:
    """Return the value of the first pattern that is the layer's name or the end of it, as PEFT matches."""
    for key, value in pattern.items():
        try:
            if re.match(rf"(?:.*\.)?(?:{key})$", layer):
                return float(value)
        except (re.error, TypeError, ValueError):
            raise ConfigError(
                f"alpha_pattern: {key!r}={value!r} is not a layer pattern with a number"
            ) from None
    return default
