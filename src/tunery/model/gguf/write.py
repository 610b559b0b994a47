"""Write a base's folder, or an adapter's, as a GGUF file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tunery.core.errors import ConfigError
from tunery.model.gguf.architecture import Architecture
from tunery.model.gguf.precision import Precision, bytes_of, encode, file_type, type_of
from tunery.model.gguf.vocabulary import write_vocabulary
from tunery.model.peft_folder import read_peft_folder, shapes_in


class _Planned(NamedTuple):
    name: str
    shape: torch.Size
    kind: Any
    read: Callable[[], torch.Tensor]


def write_model(folder: Path, target: Path, precision: Precision = "f16", *, name: str | None = None) -> None:
    """Write a Hugging Face folder as one GGUF file; one tensor is in memory at a time.

    Args:
        folder: With safetensors, ``config.json`` and ``tokenizer.json``.
        target: File to make.
        precision: Number format of matrices.
        name: What the file calls the model; else the folder's name.

    Raises:
        ConfigError: The architecture or its tokenizer has no form in GGUF that computes the same, or the
            package that quantises is missing.
        OSError: It cannot be written.
    """
    import gguf

    architecture = Architecture(folder)
    writer = gguf.GGUFWriter(None, architecture.name)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name or folder.name)
    architecture.write_parameters(writer)
    writer.add_file_type(file_type(precision))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    write_vocabulary(folder, writer, architecture.vocabulary)
    with _tensors(folder) as tensors:
        _write(writer, target, _plan(folder, architecture, tensors, precision))


def write_adapter(base: Path, adapter: Path, target: Path) -> None:
    """Write a PEFT folder's LoRA matrices as a GGUF adapter of a base, in fp32 with the scaling in ``B``.

    Args:
        base: Hugging Face folder of the base.
        adapter: PEFT folder.
        target: File to make.

    Raises:
        ConfigError: It is no LoRA that llama.cpp computes on this base; every reason at once.
        OSError: It cannot be written.
    """
    import gguf

    architecture = Architecture(base)
    named = architecture.namer()
    layers = read_peft_folder(adapter, shapes_in(base))
    if any(pair.magnitude is not None for pair in layers.values()):
        raise ConfigError(
            f"adapter {adapter}: it is DoRA, which llama.cpp does not compute",
            hint="tunery registry export --format gguf merges it into its base",
        )
    writer = gguf.GGUFWriter(None, architecture.name)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 0.0)  # 0: nothing is multiplied, the scaling is in B
    planned, unnamed = [], []
    for layer, pair in sorted(layers.items()):
        if (name := named(f"{layer}.weight")) is None:
            unnamed.append(layer)
            continue
        for side, matrix in (("a", pair.down), ("b", architecture.rows_of(layer, pair.up))):
            planned.append(_whole(f"{name}.lora_{side}", matrix.to(torch.float32)))
    if unnamed:
        raise ConfigError(f"GGUF has no name for the adapted layers {', '.join(unnamed[:5])}")
    _write(writer, target, planned)


def _plan(
    folder: Path, architecture: Architecture, tensors: Mapping[str, Any], precision: Precision
) -> list[_Planned]:
    named = architecture.namer()
    planned = []
    for name, read in tensors.items():
        if architecture.left_out(name):
            continue
        if (target := named(name)) is None:
            raise ConfigError(f"base {folder.name}: GGUF has no name for its weight {name}")
        shape = torch.Size(read.get_shape())
        tied = architecture.tied or architecture.name.startswith("gemma")
        kind = type_of(target, shape, precision, architecture.layers, tied=tied)
        planned.append(_Planned(target, shape, kind, partial(_laid, architecture, name, read)))
    if (frequencies := architecture.frequencies()) is not None:
        planned.append(_whole("rope_freqs.weight", frequencies))
    return planned


def _laid(architecture: Architecture, name: str, read: Any) -> torch.Tensor:
    return architecture.laid(name, read[:])


def _whole(name: str, tensor: torch.Tensor) -> _Planned:
    import gguf

    return _Planned(name, tensor.shape, gguf.GGMLQuantizationType.F32, lambda: tensor)


def _write(writer: Any, target: Path, planned: list[_Planned]) -> None:
    import numpy as np

    for each in planned:
        size = bytes_of(each.shape, each.kind)
        writer.add_tensor_info(each.name, list(each.shape), np.dtype(np.float32), size, raw_dtype=each.kind)
    writer.write_header_to_file(path=target)
    try:
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for each in planned:
            writer.write_tensor_data(encode(each.read(), each.kind))
    finally:
        writer.close()


@contextmanager
def _tensors(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield slices of a folder's safetensors by name; nothing is read until one is taken."""
    from safetensors import safe_open

    with ExitStack() as stack:
        found: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            opened = stack.enter_context(safe_open(str(path), framework="pt"))
            found |= {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        yield found
