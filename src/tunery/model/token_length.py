"""How much text one token can stand for, so that a text can be called too long before it is tokenised."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_USUAL_MOST = 256
"""Bytes of one token at most where a tokenizer's own rules set no bound [bytes]."""
_COMPOSED = 3
"""How far composing (NFC) shortens text at most: three jamo of 3 bytes are one syllable of 3 bytes."""


class TokenLength(NamedTuple):
    """The most text that one token stands for."""

    bytes: int
    """UTF-8 bytes [bytes]."""
    exact: bool
    """Whether no text at all has more; else only no text that anybody writes."""

    def fewest_tokens(self, text_bytes: int) -> int:
        """Return how many tokens a text has at least."""
        return -(-text_bytes // self.bytes)


def token_length(tokenizer: Mapping[str, Any]) -> TokenLength:
    """Return the bound of a tokenizer.

    It is exact where every byte of a text ends in some token. A normaliser may drop characters, an unknown
    word may be one token whatever its length, and a token may take the white space beside it along.

    Args:
        tokenizer: The contents of ``tokenizer.json``.
    """
    model = tokenizer["model"]
    vocab = model.get("vocab") or {}
    words = vocab if isinstance(vocab, dict) else [word for word, _ in vocab]  # a unigram model's are pairs
    steps = [*_steps(tokenizer.get("pre_tokenizer"))]
    added = tokenizer.get("added_tokens") or []
    if any(step["type"] == "ByteLevel" for step in steps):
        longest = max(map(len, words), default=1)  # each character of a word stands for one byte
        whole = model["type"] == "BPE" and len([w for w in words if len(w) == 1]) >= 256
    else:
        longest = max((len(word.encode()) for word in words), default=1)
        whole = bool(model.get("byte_fallback"))
    longest = max([longest, *(len(token["content"].encode()) for token in added)])
    shrinks = 1
    for step in _steps(tokenizer.get("normalizer")):
        shrinks *= _COMPOSED if step["type"] == "NFC" else 1
        spaces = step["type"] == "Replace" and step.get("pattern") == {"String": " "} and step.get("content")
        whole = whole and (step["type"] in ("NFC", "NFD", "Prepend") or bool(spaces))
    whole = whole and all(_keeps_all(step) for step in steps)
    whole = whole and not any(token.get("lstrip") or token.get("rstrip") for token in added)
    return TokenLength(longest * shrinks if whole else max(longest * shrinks, _USUAL_MOST), whole)


def token_length_of(hf: Any) -> TokenLength:
    """Return the bound of a fast Hugging Face tokenizer."""
    return token_length(json.loads(hf.backend_tokenizer.to_str()))


def _keeps_all(step: Mapping[str, Any]) -> bool:
    if step["type"] in ("Split", "Punctuation"):
        return bool(step.get("behavior") != "Removed")
    return step["type"] in ("ByteLevel", "Digits", "Metaspace")


def _steps(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Walk a normaliser or pre-tokenizer that may be a sequence of others."""
    if part is None:
        return
    if part["type"] != "Sequence":
        yield part
        return
    for inner in part.get("normalizers") or part.get("pretokenizers") or ():
        yield from _steps(inner)
