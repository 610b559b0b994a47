"""Tiny random weights of architectures other than the embedded base's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

WINDOW = 8
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "initializer_range": 0.1,
}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": WINDOW}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, more heads": ("Llama", {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral, sliding": ("Mistral", {"sliding_window": WINDOW}),
    "qwen2": ("Qwen2", {}),
    "qwen2, sliding": ("Qwen2", {"use_sliding_window": True, **SLIDING}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {**SLIDING, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0}),
    "gemma3": ("Gemma3Text", {**SLIDING, "query_pre_attn_scalar": 16}),
}


def build_architecture(tokenizer: Path, folder: Path, name: str, **more: Any) -> Path:
    """Write random weights of one of transformers' architectures with a folder's tokenizer and template.

    Args:
        tokenizer: Folder whose tokenizer it gets.
        folder: To make.
        name: As transformers' configurations begin, such as ``Qwen3``.
        more: Settings besides :data:`SHAPE`.
    """
    import torch
    import transformers

    model_class = "Gemma3ForCausalLM" if name == "Gemma3Text" else f"{name}ForCausalLM"
    size = len(transformers.AutoTokenizer.from_pretrained(tokenizer))
    config = getattr(transformers, f"{name}Config")(**{"vocab_size": size, **SHAPE, **more})
    state = torch.random.get_rng_state()
    torch.manual_seed(3)
    getattr(transformers, model_class)(config).save_pretrained(folder)
    torch.random.set_rng_state(state)
    for file in tokenizer.iterdir():
        if "token" in file.name or file.name == "chat_template.jinja":
            shutil.copyfile(file, folder / file.name)
    return folder
