"""What of a base is trained: an adapter beside its frozen weights, or every weight; how it is kept."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, load_model
from torch import nn

from tunery.core.errors import ConfigError, DamagedError
from tunery.core.training import ADAPTER_WEIGHTS, WHOLE_MODEL, BaseModelInfo
from tunery.model.bases import check_base
from tunery.model.load import load_for_packing
from tunery.model.whole import merge, save_whole
from tunery.train import checkpoints
from tunery.train.config import TrainConfig

_WHOLE_WEIGHTS = "model.safetensors"


def trainable_model(base: BaseModelInfo, config: TrainConfig, device: torch.device) -> nn.Module:
    """Load a base and make trainable what the settings say.

    Raises:
        ConfigError: Modules that the settings name are not there, or a library is not installed.
        DamagedError: The base is not what was recorded.
        ResourceError: There is no memory for it.
    """
    half = config.base_in_half(device.type)
    check_base(base)
    model = load_for_packing(
        base.path, dtype=torch.bfloat16 if half else torch.float32, quantization=config.quantization
    )
    check_base(base)  # nobody changed it while it was being read
    return model if config.adapter == "none" else _with_adapter(model, base, config)


def checkpointed(model: nn.Module) -> None:
    """Have a model compute each layer's activations again going backward instead of keeping them."""
    model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]


def begin_with(model: nn.Module, start: Path) -> None:
    """Give a model what an earlier training of the same shape left.

    Args:
        model: As :func:`trainable_model` made it.
        start: Folder of the earlier adapter.

    Raises:
        DamagedError: Its weights are not those of this shape.
    """
    if not isinstance(model, PeftModel):
        _load_whole(model, start / WHOLE_MODEL)
        return
    weights = load_file(start / ADAPTER_WEIGHTS)
    fresh = get_peft_model_state_dict(model, save_embedding_layers=False)
    if {n: w.shape for n, w in fresh.items()} != {n: w.shape for n, w in weights.items()}:
        raise DamagedError(f"{start} holds an adapter of another shape than this training's")
    set_peft_model_state_dict(model, weights)


def load_checkpoint(model: nn.Module, checkpoint: Path) -> None:
    """Give a model the trained weights of a checkpoint.

    Raises:
        DamagedError: The checkpoint is not what was written.
    """
    checkpoints.require_complete(checkpoint)
    if not isinstance(model, PeftModel):
        _load_whole(model, checkpoint)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.load_adapter(str(checkpoint), "default")


def save_trained(model: nn.Module, base: BaseModelInfo, output: Path) -> None:
    """Write what was trained: a plain PEFT folder, or a model of its own in ``model/`` beneath it.

    Raises:
        OSError: It cannot be written.
    """
    if not isinstance(model, PeftModel):
        save_whole(model, base, output / WHOLE_MODEL)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT looks for the base on the hub and warns that it is not there
        model.save_pretrained(str(output), safe_serialization=True, save_embedding_layers=False)


def save_merged(base: BaseModelInfo, output: Path) -> None:
    """Write the base with the adapter of ``output`` merged into it to ``model/`` beneath; raises as
    :func:`merge`."""
    merge(base, output, output / WHOLE_MODEL)


def _load_whole(model: nn.Module, folder: Path) -> None:
    try:
        missing, unexpected = load_model(model, folder / _WHOLE_WEIGHTS, strict=False)
    except RuntimeError:  # of other sizes
        missing, unexpected = ["weights"], []
    if missing or unexpected:
        raise DamagedError(f"{folder} holds a model of another shape than this training's")


def _with_adapter(model: nn.Module, base: BaseModelInfo, config: TrainConfig) -> nn.Module:
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=_targets(model, base, config.target_modules),
        modules_to_save=list(config.modules_to_save) or None,
        # Else a base whose output layer is its embedding would be saved with one of the two lost.
        ensure_weight_tying=bool(config.modules_to_save) and bool(model.config.tie_word_embeddings),  # type: ignore[union-attr]
        task_type="CAUSAL_LM",
        bias="none",
        use_rslora=config.adapter == "rslora",
        use_dora=config.adapter == "dora",
    )
    _require_modules(model, base, config.modules_to_save)
    with warnings.catch_warnings():
        # PEFT reads an attribute that this transformers calls by another name.
        warnings.simplefilter("ignore", FutureWarning)
        adapted: Any = get_peft_model(model, lora)
    # Recorded in the adapter, so that plain PEFT and other engines know what it belongs to.
    adapted.peft_config["default"].base_model_name_or_path = base.name
    # PEFT's empty card takes half the time of a small checkpoint; ours is written at registration.
    adapted.create_or_update_model_card = _no_card
    return adapted  # type: ignore[no-any-return]


def _no_card(output_dir: str) -> None:
    """Write no card of an adapter."""


def _targets(model: nn.Module, base: BaseModelInfo, wanted: str | Sequence[str]) -> str | list[str]:
    """Return the layers to adapt as PEFT takes them: names as they are, patterns as the layers that they fit.

    Raises:
        ConfigError: A name or a pattern fits no linear layer.
    """
    if isinstance(wanted, str):
        return wanted
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    targets: dict[str, None] = {}
    for target in wanted:
        fit = [name for name in linear if fnmatch.fnmatchcase(f".{name}", f"*.{target}")]
        if not fit:
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise ConfigError(
                f"train.target_modules: {target!r} fits no linear layer of {base.name}",
                hint=f"train.target_modules=all-linear, or some of {', '.join(known)}",
                param="train.target_modules",
            )
        targets |= dict.fromkeys(fit if set(target) & set("*?[") else [target])
    return list(targets)


def _require_modules(model: nn.Module, base: BaseModelInfo, wanted: Sequence[str]) -> None:
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()} - {""}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(
            f"train.modules_to_save: {base.name} has no module {', '.join(unknown)}",
            hint=f"one of {', '.join(sorted(n for n in names if not n.isdecimal()))}",
            param="train.modules_to_save",
        )
