"""What is written as GGUF computes what the folder computes, read by another program: transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from tests.tiny.architectures import build_architecture
from tunery.core.errors import ConfigError
from tunery.model.gguf.precision import PRECISIONS
from tunery.model.gguf.write import write_adapter, write_model
from tunery.model.tokenizer import load_tokenizer
from tunery.model.whole import merge

IDS = torch.tensor([[5, 80, 200, 301, 12, 7, 44, 91]])


def logits(folder: Path, **how: Any) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True, **how)
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


def tensors(path: Path) -> dict[str, np.ndarray]:
    reader = gguf.GGUFReader(str(path))
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(str(path)).fields.items()}


@pytest.mark.parametrize("name", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_transformers_reads_the_same_model_back(name: str, tiny_model: Path, tmp_path: Path) -> None:
    # transformers takes Qwen3's heads for 128 wide, whatever the file says.
    more = {"Mistral": {"sliding_window": None}, "Qwen3": {"head_dim": 128}}.get(name, {})
    base = build_architecture(tiny_model, tmp_path / "base", name, **more)
    write_model(base, tmp_path / "model.gguf", "f32")
    again = logits(tmp_path, gguf_file="model.gguf")
    assert torch.allclose(again, logits(base), atol=1e-5)


def test_llama_3s_frequencies_and_a_layer_of_its_own_for_the_output_are_written(
    tiny_model: Path, tmp_path: Path
) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    base = build_architecture(
        tiny_model, tmp_path / "base", "Llama", rope_parameters=rope, tie_word_embeddings=False
    )
    write_model(base, tmp_path / "model.gguf", "f32")
    found = tensors(tmp_path / "model.gguf")
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = AutoConfig.from_pretrained(base)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / 500_000.0 ** (torch.arange(0, 16, 2) / 16)
    assert found["rope_freqs.weight"] == pytest.approx((plain / scaled).numpy(), rel=1e-5)
    assert "output.weight" in found


@pytest.mark.parametrize(("precision", "error"), [("f16", 1e-3), ("q8_0", 1e-2), ("q4_k_m", 0.12)])
def test_a_number_format_changes_weights_as_little_as_it_promises(
    precision: str, error: float, tiny_model: Path, tmp_path: Path
) -> None:
    base = tiny_model
    if precision == "q4_k_m":
        pytest.importorskip("libgguf")
        base = build_architecture(
            tiny_model, tmp_path / "wide", "Llama", hidden_size=256, intermediate_size=512, head_dim=64
        )
    write_model(base, tmp_path / "exact.gguf", "f32")
    write_model(base, tmp_path / "rounded.gguf", precision)  # type: ignore[arg-type]
    exact, rounded = tensors(tmp_path / "exact.gguf"), tensors(tmp_path / "rounded.gguf")
    assert exact.keys() == rounded.keys()
    for name, weight in exact.items():
        assert np.abs(rounded[name] - weight).max() <= error * np.abs(weight).max(), name
    assert (tmp_path / "rounded.gguf").stat().st_size < (tmp_path / "exact.gguf").stat().st_size


def test_q4_k_m_spends_more_on_the_output_layer_and_narrow_rows() -> None:
    from tunery.model.gguf.precision import type_of

    def kind(name: str, width: int) -> str:
        return str(type_of(name, torch.Size((8, width)), "q4_k_m", 8, tied=True).name)

    assert kind("token_embd.weight", 512) == "Q6_K"
    assert kind("blk.0.ffn_down.weight", 512) == "Q6_K"
    assert kind("blk.2.ffn_down.weight", 512) == "Q4_K"
    assert kind("blk.3.attn_v.weight", 576) == "Q8_0"
    assert kind("blk.0.attn_q.weight", 576) == "Q5_0"
    assert kind("blk.0.attn_q.weight", 40) == "F16"
    assert set(PRECISIONS) == {"f32", "f16", "q8_0", "q4_k_m"}


def test_an_adapter_over_the_base_is_the_merged_model(
    tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    from tunery.model.bases import describe_base

    merge(describe_base(tiny_model, name="tiny"), tiny_adapters["b"], tmp_path / "merged")
    write_model(tiny_model, tmp_path / "base.gguf", "f32")
    write_model(tmp_path / "merged", tmp_path / "merged.gguf", "f32")
    write_adapter(tiny_model, tiny_adapters["b"], tmp_path / "lora.gguf")
    base, merged = tensors(tmp_path / "base.gguf"), tensors(tmp_path / "merged.gguf")
    added = tensors(tmp_path / "lora.gguf")
    assert len(added) == 2 * 7 * 2  # both matrices, of seven layers of two blocks
    for name, weight in base.items():
        if f"{name}.lora_a" in added:
            weight = weight + added[f"{name}.lora_b"] @ added[f"{name}.lora_a"]
        assert np.abs(merged[name] - weight).max() < 1e-5, name


def test_a_dora_adapter_is_refused(tiny_model: Path, tiny_adapters: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"DoRA, which llama\.cpp does not compute"):
        write_adapter(tiny_model, tiny_adapters["c"], tmp_path / "lora.gguf")


def test_the_tokenizer_its_stops_and_its_template_are_in_the_file(tiny_model: Path, tmp_path: Path) -> None:
    write_model(tiny_model, tmp_path / "model.gguf", "f32", name="my-model")
    found, tokenizer = fields(tmp_path / "model.gguf"), load_tokenizer(str(tiny_model))
    assert found["general.name"] == "my-model"
    assert (found["tokenizer.ggml.model"], found["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    tokens = found["tokenizer.ggml.tokens"]
    assert [tokenizer.hf.get_vocab()[token] for token in tokens] == list(range(len(tokens)))
    assert found["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    assert found["tokenizer.ggml.eos_token_id"] == 2
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert found["tokenizer.chat_template"] == tokenizer.hf.chat_template
    assert found["llama.context_length"] == 512


def test_rows_beyond_the_tokens_are_named_as_unused(tiny_model: Path, tmp_path: Path) -> None:
    base = build_architecture(tiny_model, tmp_path / "base", "Llama", vocab_size=544)
    write_model(base, tmp_path / "model.gguf", "f32")
    found = fields(tmp_path / "model.gguf")
    assert len(found["tokenizer.ggml.tokens"]) == 544
    assert found["tokenizer.ggml.tokens"][-1] == "[PAD543]"
    assert found["tokenizer.ggml.token_type"][-1] == 5


@pytest.mark.parametrize(
    ("name", "more", "why"),
    [
        ("GPTNeoX", {}, "GPTNeoXForCausalLM cannot be written"),
        ("Gemma3Text", {"layer_types": ["full_attention"] * 4}, "every 6th layer"),
        ("Gemma2", {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar=64"),
        ("Llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "yarn"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    name: str, more: dict[str, Any], why: str, tiny_model: Path, tmp_path: Path
) -> None:
    base = build_architecture(tiny_model, tmp_path / "base", name, **more)
    with pytest.raises(ConfigError, match=why):
        write_model(base, tmp_path / "model.gguf", "f32")
    assert not (tmp_path / "model.gguf").exists()


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    spec = json.loads((base / "tokenizer.json").read_text("utf-8"))
    spec["pre_tokenizer"] = {"type": "Whitespace"}
    (base / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ConfigError, match="no name for how it splits text"):
        write_model(base, tmp_path / "model.gguf", "f32")


def test_a_short_sliding_window_bounds_what_is_promised(tiny_model: Path, tmp_path: Path) -> None:
    base = build_architecture(tiny_model, tmp_path / "base", "Mistral", sliding_window=64)
    write_model(base, tmp_path / "model.gguf", "f32")
    assert fields(tmp_path / "model.gguf")["llama.context_length"] == 64
