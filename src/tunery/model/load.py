"""Load base weights: from safetensors, from disk alone, with an attention function of our own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunery.core.errors import ConfigError, TuneryError
from tunery.core.faults import explained
from tunery.model.tree_attention import ATTENTION, tree_attention

_MEMORY_HINT = "free -h shows what is free; end other programs, or choose a smaller base"


def load_causal_lm(
    folder: Path | str,
    *,
    attention: str | None = None,
    function: Callable[..., Any] | None = None,
    dtype: torch.dtype = torch.float32,
    quantization: str | None = None,
) -> Any:
    """Load a causal language model whose layers call an attention function by name.

    Args:
        folder: Hugging Face folder with safetensors; nothing else is read, nothing is downloaded.
        attention: Name to register the function under; one name, one function in a process. None has
            transformers choose one of its own.
        function: Called as transformers calls its attention functions.
        dtype: Of the weights; fp32 on a CPU, where half precision is slow.
        quantization: ``nf4`` holds the linear layers in four bits and computes in ``dtype``.

    Raises:
        ConfigError: There are no safetensors, transformers cannot load it, or bitsandbytes is not installed.
        ResourceError: Not enough memory.
    """
    from transformers import AttentionInterface, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    if not any(Path(folder).glob("*.safetensors")):
        raise ConfigError(f"{folder}: no *.safetensors weights; pickles are never loaded")
    if attention is not None and function is not None:
        AttentionInterface.register(attention, function)
    disable_progress_bar()  # bars are ours
    quantized = {"quantization_config": _four_bits(dtype)} if quantization else {}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **quantized,
        )
        _own_memory(model)
    except TuneryError:
        raise
    except Exception as error:  # torn files raise whatever the library happens to stumble over
        fault = explained(error, place=Path(folder), memory_hint=_MEMORY_HINT)
        if fault is not None:
            raise fault from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{folder}: cannot be loaded as a causal language model ({reason:.300})") from None
    return model


def _four_bits(dtype: torch.dtype) -> Any:
    """Have linear layers held in NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314)."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "quantization nf4 takes bitsandbytes, which is not installed",
            hint="pip install 'tunery[qlora]'",
            param="train.quantization",
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _own_memory(model: nn.Module) -> None:
    """Copy weights that are views of the mapped file.

    Through the mapping, whoever writes to the file would change a model that is answering, and whoever
    shortens it would end the process.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def load_plain(folder: Path | str, *, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load a model as transformers itself computes it; raises as :func:`load_causal_lm`."""
    model: nn.Module = load_causal_lm(folder, dtype=dtype)
    return model


def load_for_packing(
    folder: Path | str, *, dtype: torch.dtype = torch.float32, quantization: str | None = None
) -> nn.Module:
    """Load a model for training on packed batches; raises as :func:`load_causal_lm`."""
    model: nn.Module = load_causal_lm(
        folder, attention=ATTENTION, function=tree_attention, dtype=dtype, quantization=quantization
    )
    return model
