"""Each token's own bytes: what it adds to the text, where one character may be spread over several tokens."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # SentencePiece's sign for a space


class ShownToken(NamedTuple):
    """One token by itself."""

    text: str
    """For people: special tokens by their names, incomplete characters as U+FFFD."""
    raw: bytes
    """Its own UTF-8 bytes in a text; none where it is a special token, which decoding leaves out."""


class TokenBytes:
    """Looks up the bytes of tokens of a byte-level or SentencePiece vocabulary.

    Joined over a completion they are the bytes of its text. A vocabulary of neither kind gives the bytes of
    what each token decodes to by itself.

    Args:
        hf: A fast Hugging Face tokenizer.
    """

    def __init__(self, hf: Any) -> None:
        self._hf = hf
        kinds = list(_steps(json.loads(hf.backend_tokenizer.to_str()).get("decoder")))
        names = {str(step["type"]) for step in kinds}
        self._byte_level = "ByteLevel" in names
        self._byte_fallback = "ByteFallback" in names
        self._spaces = "Metaspace" in names or any(_is_space(step) for step in kinds)
        self._strips_first = any(_strips_first(step) for step in kinds)
        self._special = {i for i, token in hf.added_tokens_decoder.items() if token.special}

    def shown(self, token_id: int, *, first: bool = False) -> ShownToken:
        """Return a token by itself.

        Args:
            first: Whether it begins the text; SentencePiece then leaves out the space before a word.
        """
        if token_id in self._special:
            return ShownToken(str(self._hf.decode([token_id])), b"")
        raw = self._raw(token_id)
        if first and self._strips_first and raw.startswith(b" "):
            raw = raw[1:]
        return ShownToken(raw.decode("utf-8", "replace"), raw)

    def _raw(self, token_id: int) -> bytes:
        piece = self._hf.convert_ids_to_tokens(token_id)
        if piece is None:  # the model's vocabulary is often padded beyond the tokenizer's
            return b""
        if self._byte_level:
            try:
                return bytes([_byte_of()[character] for character in piece])
            except KeyError:  # an added token of characters that no byte stands for
                return str(piece).encode()
        if self._byte_fallback and (found := _BYTE_PIECE.fullmatch(piece)):
            return bytes([int(found[1], 16)])
        if self._spaces:
            return str(piece).replace(_SPACE, " ").encode()
        return str(self._hf.decode([token_id], clean_up_tokenization_spaces=False)).encode()


def _steps(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the steps by which a tokenizer turns tokens into text."""
    if decoder is None:
        return
    if decoder["type"] != "Sequence":
        yield decoder
        return
    for step in decoder["decoders"]:
        yield from _steps(step)


def _is_space(step: Mapping[str, Any]) -> bool:
    pattern = step.get("pattern") or {}
    return step["type"] == "Replace" and (pattern.get("String"), step["content"]) == (_SPACE, " ")


def _strips_first(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return bool(step.get("prepend_scheme", "always") != "never")
    return bool(step["type"] == "Strip" and step["content"] == " " and step["start"] == 1)


@functools.cache
def _byte_of() -> Mapping[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for.

    Source:
        ``bytes_to_unicode`` of OpenAI's GPT-2 encoder: printable bytes stand for themselves, the others are
        numbered from U+0100 in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {
        **{chr(b): b for b in printable},
        **{chr(0x100 + place): b for place, b in enumerate(others)},
    }
