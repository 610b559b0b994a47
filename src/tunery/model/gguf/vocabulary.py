"""A fast tokenizer as GGUF holds it: tokens, merges, and the name of what splits text before them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError
from tunery.model.tokenizer import ChatTokenizer, load_hf_tokenizer

# The patterns of tokenizer.json that llama.cpp knows by a name, without their spaces.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_SPLITS = {_LLAMA3: "llama-bpe", _QWEN2: "qwen2"}


def write_vocabulary(folder: Path, writer: Any, rows: int) -> None:
    """Write a base's tokenizer and chat template into a ``gguf.GGUFWriter``.

    Args:
        folder: Hugging Face folder with ``tokenizer.json``.
        writer: Of the file.
        rows: Rows of the embedding table; those beyond the tokens are named as unused [count].

    Raises:
        ConfigError: llama.cpp has no name for how the tokenizer splits text.
    """
    import gguf

    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model, hf = spec["model"], load_hf_tokenizer(folder)
    if model.get("type") != "BPE":
        raise _refused(folder, f"its model is {model.get('type')}; BPE is written")
    vocabulary: dict[str, int] = hf.get_vocab()
    names = {id_: token for token, id_ in vocabulary.items() if id_ < rows}
    tokens = [names.get(id_, f"[PAD{id_}]") for id_ in range(rows)]
    added = {token["id"]: token for token in spec.get("added_tokens", ())}
    pieces = bool(model.get("byte_fallback"))
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre("default" if pieces else _splitting(folder, spec))
    writer.add_token_list(tokens)
    writer.add_token_types([_type(gguf.TokenType, i, tokens[i], names, added) for i in range(rows)])
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    if pieces:
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_prepends_space(spec))
    else:
        writer.add_token_merges([" ".join(part.replace(" ", "Ġ") for part in merge) for merge in merges])
    _write_ends(folder, hf, writer)


def _write_ends(folder: Path, hf: Any, writer: Any) -> None:
    """Write what begins and ends a text and a turn, and the chat template."""
    chat = ChatTokenizer(hf)
    bare, plain = hf("a"), hf("a", add_special_tokens=False)
    starts = bare["input_ids"][:1] != plain["input_ids"][:1]
    writer.add_add_bos_token(starts)
    writer.add_add_eos_token(False)
    for name, id_ in (("bos", hf.bos_token_id), ("eos", hf.eos_token_id), ("pad", hf.pad_token_id)):
        if id_ is not None:
            getattr(writer, f"add_{name}_token_id")(int(id_))
    ends = [id_ for id_ in sorted(chat.stop_ids) if id_ != hf.eos_token_id]
    if ends:
        writer.add_eot_token_id(chat.end_of_turn if chat.end_of_turn in ends else ends[0])
    if hf.chat_template:
        writer.add_chat_template(hf.chat_template)


def _type(kinds: Any, id_: int, token: str, names: dict[int, str], added: dict[int, Any]) -> int:
    if id_ not in names:
        return int(kinds.UNUSED)
    if id_ in added:
        if token == "<unk>":  # noqa: S105 - a token of text
            return int(kinds.UNKNOWN)
        return int(kinds.CONTROL if added[id_].get("special") else kinds.USER_DEFINED)
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return int(kinds.BYTE)
    return int(kinds.NORMAL)


def _scores(tokens: list[str], merges: list[tuple[str, ...]]) -> list[float]:
    """Return scores by which the best pair is the one whose merge comes first."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge), rank)
    return [float(-ranks[token]) if token in ranks else -1e9 if len(token) > 1 else 0.0 for token in tokens]


def _prepends_space(spec: dict[str, Any]) -> bool:
    text = json.dumps([spec.get("normalizer"), spec.get("pre_tokenizer")])
    return '"Prepend"' in text or '"prepend_scheme": "first"' in text or '"prepend_scheme": "always"' in text


def _splitting(folder: Path, spec: dict[str, Any]) -> str:
    """Return llama.cpp's name for what splits text before merges apply.

    It is told by the parts of the pre-tokenizer alone, so a tokenizer of another name that splits in the same
    way has a name, too.
    """
    found = spec.get("pre_tokenizer") or {}
    parts = found.get("pretokenizers", [found])
    kinds = [part.get("type") for part in parts]
    byte_level = parts[-1] if kinds and kinds[-1] == "ByteLevel" else None
    if byte_level is not None and not byte_level.get("add_prefix_space"):
        own_pattern = byte_level.get("use_regex", True)
        if kinds == ["ByteLevel"] and own_pattern:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and own_pattern and parts[0].get("individual_digits"):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and not own_pattern:
            pattern = parts[0].get("pattern", {}).get("Regex", "")
            if pattern in _SPLITS:
                return _SPLITS[pattern]
    raise _refused(folder, f"llama.cpp has no name for how it splits text ({json.dumps(found):.160})")


def _refused(folder: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the tokenizer of {folder.name} cannot be written as GGUF: {why}",
        hint="tunery registry export --format merged, and llama.cpp's own converter on that folder",
    )
