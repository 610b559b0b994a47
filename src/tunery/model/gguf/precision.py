"""In which number format each tensor of a GGUF file is written, and how it gets there."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch

from tunery.core.errors import ConfigError

Precision = Literal["f32", "f16", "q8_0", "q4_k_m"]
"""Number format of a file's matrices, by llama.cpp's name; what has one dimension stays in fp32."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_k_m": "MOSTLY_Q4_K_M"}
_NARROW = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
"""What stands in for blocks of 256 in rows that hold no whole number of them."""


def file_type(precision: Precision) -> int:
    """Return what ``general.file_type`` says of a file."""
    import gguf

    return int(gguf.LlamaFileType[_FILE_TYPES[precision]])


def type_of(name: str, shape: torch.Size, precision: Precision, layers: int, *, tied: bool) -> Any:
    """Return the ``gguf.GGMLQuantizationType`` of one tensor.

    Q4_K_M spends more on what errs most: the output layer, and values and down-projections of the first and
    last eighth of the layers and of each third between them.

    Args:
        name: GGUF's.
        shape: Of the tensor.
        precision: Of the file.
        layers: Transformer blocks [count].
        tied: Whether the embedding table is the output layer.

    Source:
        ``llama_tensor_get_type`` of llama.cpp, ``src/llama-quant.cpp``.
    """
    import gguf

    if len(shape) < 2:
        return gguf.GGMLQuantizationType.F32
    wanted = precision.upper()
    if precision == "q4_k_m":
        wanted = "Q6_K" if _errs_most(name, layers, tied=tied) else "Q4_K"
        if shape[-1] % 256:
            wanted = _NARROW[wanted]
    if wanted.startswith("Q") and shape[-1] % 32:
        wanted = "F16"
    return gguf.GGMLQuantizationType[wanted]


def _errs_most(name: str, layers: int, *, tied: bool) -> bool:
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return True
    if not name.endswith(("attn_v.weight", "ffn_down.weight")):
        return False
    block, eighth = int(name.split(".")[1]), layers // 8
    return block < eighth or block >= 7 * layers // 8 or (block - eighth) % 3 == 2


def encode(weight: torch.Tensor, kind: Any) -> np.ndarray:
    """Return a tensor's bytes in a number format, shape ``(rows, bytes of a row)`` where it has blocks.

    Raises:
        ConfigError: The package that writes blocks of 256 is not installed.
    """
    import gguf

    values = weight.detach().to(torch.float32).contiguous().numpy()
    if kind.name not in _NARROW:
        encoded: np.ndarray = gguf.quants.quantize(values, kind)
        return encoded
    try:
        import libgguf
    except ImportError:
        raise ConfigError(
            f"{kind.name} is written by the package libgguf, which is not installed",
            hint="pip install 'tunery[llamacpp]', or --quantise q8_0",
        ) from None
    blocks: np.ndarray = libgguf.quantize_rows(values, kind.value)
    return blocks


def bytes_of(shape: torch.Size, kind: Any) -> int:
    """Return the size of a tensor in a number format [bytes]."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(shape.numel()) // int(block) * int(size)
