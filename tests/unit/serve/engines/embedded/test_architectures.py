"""Other architectures than the embedded base's: tiny random weights of each, against transformers itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tunery.core.engine import GenerationRequest, Sampling
from tunery.serve.engines import engine_settings, open_engine

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


@pytest.fixture(params=ARCHITECTURES)
def base(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Path:
    """Return a folder with random weights of an architecture and the tiny base's tokenizer."""
    import shutil

    import transformers

    name, more = ARCHITECTURES[request.param]
    model_class = "Gemma3ForCausalLM" if name == "Gemma3Text" else f"{name}ForCausalLM"
    size = len(transformers.AutoTokenizer.from_pretrained(tiny_model))
    config = getattr(transformers, f"{name}Config")(vocab_size=size, **{**SHAPE, **more})
    state = torch.random.get_rng_state()
    torch.manual_seed(3)
    getattr(transformers, model_class)(config).save_pretrained(tmp_path / "base")
    torch.random.set_rng_state(state)
    for file in tiny_model.iterdir():
        if "token" in file.name or file.name == "chat_template.jinja":
            shutil.copyfile(file, tmp_path / "base" / file.name)
    return tmp_path / "base"


def test_it_answers_and_scores_as_transformers_does(base: Path) -> None:
    draw = random.Random(1)
    prompts = [tuple(draw.choices(range(3, 300), k=size)) for size in (3, 30, 45, 12)]
    ours = open_engine(base, engine_settings({"device": "cpu", "threads": 1, "prefill_chunk_tokens": 16}))
    plain = open_engine(base, engine_settings({"kind": "transformers", "device": "cpu"}))
    try:
        rows = [(prompt, tuple(draw.choices(range(3, 300), k=6))) for prompt in prompts]
        for a, b in zip(ours.score(rows), plain.score(rows), strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        requests = [GenerationRequest(prompt, sampling=Sampling(max_tokens=24)) for prompt in prompts]
        for a, b in zip(ours.generate(requests), plain.generate(requests), strict=True):
            assert a.token_ids == b.token_ids
    finally:
        ours.close()
        plain.close()
