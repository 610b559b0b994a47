"""Whole models on disk: what training made of a base, as a folder that any engine serves as a base."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from tunery.core.training import BaseModelInfo
from tunery.model.bases import check_base

_WRITTEN_ANEW = (".safetensors", ".safetensors.index.json")
_CONFIG = frozenset({"config.json", "generation_config.json"})


def save_whole(model: nn.Module, base: BaseModelInfo, folder: Path) -> None:
    """Write all weights of a model with the configuration and the tokenizer of the base that it comes from.

    Args:
        model: Of transformers, without an adapter.
        base: Whose tokenizer and chat template it goes on using.
        folder: To make.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder), safe_serialization=True)  # type: ignore[operator]
    for name in base.files:
        if not name.endswith(_WRITTEN_ANEW) and name not in _CONFIG:
            shutil.copyfile(Path(base.path) / name, folder / name)


def merge(base: BaseModelInfo, adapter: Path, folder: Path) -> None:
    """Write the base with an adapter merged into its weights, in fp32.

    It is the base as it is on disk, whatever it was held in while the adapter was trained.

    Args:
        base: What the adapter belongs to.
        adapter: A PEFT folder.
        folder: To make.

    Raises:
        DamagedError: The base is not what was recorded.
        ResourceError: There is no memory for it.
        OSError: It cannot be written.
    """
    from peft import PeftModel

    from tunery.model.load import load_for_packing

    check_base(base)
    model: Any = load_for_packing(base.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
        whole = adapted.merge_and_unload(safe_merge=True)
    save_whole(whole, base, folder)
