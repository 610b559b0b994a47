"""Load base weights for training: from safetensors, from disk alone, with the packed attention."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tunery.core.errors import ConfigError, ResourceError
from tunery.model.packing import ATTENTION, register_attention


def pick_device(device: str) -> torch.device:
    """Return the device that ``auto`` or a name such as ``cuda:0`` or ``cpu`` means.

    Raises:
        ConfigError: The named device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device {device!r} is not a device; write auto, cpu or cuda") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {device}: no CUDA device is visible to this PyTorch ({torch.__version__})",
            hint="train.device=auto",
        )
    return found


def load_for_packing(folder: Path | str, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load a causal language model whose attention understands packed batches.

    Args:
        folder: Hugging Face folder with safetensors.
        dtype: Of the weights; fp32 on a CPU, where half precision is slow.

    Raises:
        ConfigError: transformers cannot load it.
        ResourceError: Not enough memory.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    register_attention()
    disable_progress_bar()
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation=ATTENTION,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except MemoryError:
        raise ResourceError(f"{folder}: not enough memory to load the weights") from None
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{folder}: cannot be loaded as a causal language model ({str(error)[:200]})"
        ) from None
    return model
