"""Cleaning: texts repaired, then personal data masked or replaced by surrogates, as the recipe says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from tunery.core.example import Message
from tunery.core.tool_text import CLOSING, with_words, words_of
from tunery.data.config import CleanConfig
from tunery.text.markup import strip_html
from tunery.text.normalise import fix_mojibake, normalise
from tunery.text.pii.mask import Masked, replace_found
from tunery.text.pii.surrogate import surrogate
from tunery.text.pii.types import Span
from tunery.text.pii.vault import Mapping


def clean_texts(texts: Sequence[str], clean: CleanConfig) -> Masked:
    """Return texts repaired and without personal data, as the settings ask.

    Raises:
        ConfigError: As :func:`apply_policy`.
    """
    repaired = repair(texts, clean)
    return apply_policy(repaired, clean) if clean.mask_pii else Masked(repaired, Counter())


def repair(texts: Sequence[str], clean: CleanConfig) -> list[str]:
    """Return texts repaired as the settings ask: wrong decoding first, for markup may be hidden in it."""
    repaired = list(texts)
    if clean.fix_mojibake:
        repaired = [fix_mojibake(t) for t in repaired]
    if clean.strip_html:
        repaired = [strip_html(t) for t in repaired]
    return [normalise(t) for t in repaired] if clean.normalise else repaired


def apply_policy(texts: Sequence[str], clean: CleanConfig) -> Masked:
    """Mask or replace personal data as the settings say for each kind.

    Args:
        texts: Any number of texts.
        clean: Its ``pii_`` settings are read. Where ``pii_mapping`` is set, what was replaced and by what is
            added to that file, encrypted; else nothing remembers it.

    Raises:
        ConfigError: The mapping is required, and there is no key to encrypt it with.
    """

    def replacement(span: Span, value: str) -> str:
        if clean.policy_of(span.type) == "surrogate":
            return surrogate(value, span.type, clean.pii_seed)
        return f"<{span.type}>"

    mapping = None if clean.pii_mapping is None else Mapping(Path(clean.pii_mapping))
    return replace_found(texts, clean.pii_replaced, replacement, mapping)


def texts_in(turn: Message) -> list[str]:
    """Return the texts of a turn that are cleaned one by one: its content, or the words around its tools."""
    return words_of(turn) if CLOSING in turn.content else [turn.content]


def with_texts(turn: Message, texts: Iterator[str]) -> Message:
    """Return a turn with those texts replaced by the next ones."""
    if CLOSING in turn.content:
        return with_words(turn, [*islice(texts, len(words_of(turn)))])
    content = next(texts)
    return turn if content == turn.content else turn.with_(content=content)
