"""Cleaning: texts repaired, then personal data masked or replaced by surrogates, as the recipe says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tunery.core.example import Message
from tunery.core.tool_text import CLOSING, with_words, words_of
from tunery.data.config import CleanConfig
from tunery.text.markup import strip_html
from tunery.text.normalise import fix_mojibake, normalised
from tunery.text.pii.mask import Masked, replace_found
from tunery.text.pii.surrogate import surrogate
from tunery.text.pii.types import PiiType, Span
from tunery.text.pii.vault import Mapping

MOJIBAKE, MARKUP, PERSONAL_DATA, SECRETS = "wrong decoding", "markup", "personal data", "secrets"


class Text(NamedTuple):
    """One text to be cleaned."""

    value: str
    is_answer: bool
    """Whether a model is to learn to say it."""
    ends: bool = True
    """Whether space at its ends may go; False where what follows continues it."""


class Cleaned(NamedTuple):
    """Texts as the settings ask for them."""

    texts: list[str]
    masked: Counter[PiiType]
    """Type of personal data to spans replaced [count]."""
    changes: list[tuple[str, ...]]
    """Beside ``texts``: the kinds of changes made to each."""


def clean_texts(texts: Sequence[Text], clean: CleanConfig) -> Cleaned:
    """Return texts repaired and without personal data, as the settings ask.

    Raises:
        ConfigError: As :func:`apply_policy`.
    """
    repaired = [_repaired(text, clean) for text in texts]
    values, changes = [value for value, _ in repaired], [kinds for _, kinds in repaired]
    if not clean.mask_pii:
        return Cleaned(values, Counter(), changes)
    masked = apply_policy(values, clean)
    for i, (before, after) in enumerate(zip(values, masked.texts, strict=True)):
        if before != after:
            changes[i] = (*changes[i], *_hidden(masked.types[i]))
    return Cleaned(masked.texts, masked.counts, changes)


def _repaired(text: Text, clean: CleanConfig) -> tuple[str, tuple[str, ...]]:
    """Return a text repaired as the settings ask, and how: wrong decoding first, which may hide markup."""
    value, kinds = text.value, []
    for asked, repair, kind in (
        (clean.fix_mojibake, fix_mojibake, MOJIBAKE),
        (clean.strip_html, strip_html, MARKUP),
    ):
        if asked and (repaired := repair(value)) != value:
            value = repaired
            kinds.append(kind)
    if clean.normalise == "off" or (text.is_answer and clean.normalise == "prompts"):
        return value, tuple(kinds)
    is_indented = text.is_answer and value.startswith(("  ", "\t"))
    value, more = normalised(value, ends=text.ends and not is_indented)
    return value, (*kinds, *more)


def _hidden(types: frozenset[PiiType]) -> Iterator[str]:
    if types - {"SECRET"}:
        yield PERSONAL_DATA
    if "SECRET" in types:
        yield SECRETS


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


def texts_of(turns: Sequence[Message]) -> Iterator[Text]:
    """Yield the texts of a conversation that are cleaned one by one, as :func:`with_texts` puts them back.

    Of a turn that is its content, or the words around its tools. The answer of a preference pair that was not
    preferred may stand behind the other: both follow the same turn.
    """
    for i, turn in enumerate(turns):
        continued = any(t.role == "assistant" and t.content[:1].isspace() for t in turns[i + 1 : i + 3])
        values = words_of(turn) if CLOSING in turn.content else [turn.content]
        for value in values:
            yield Text(value, turn.role == "assistant", ends=not continued)


def with_texts(turn: Message, texts: Iterator[str]) -> Message:
    """Return a turn with those texts replaced by the next ones."""
    if CLOSING in turn.content:
        return with_words(turn, [*islice(texts, len(words_of(turn)))])
    content = next(texts)
    return turn if content == turn.content else turn.with_(content=content)
