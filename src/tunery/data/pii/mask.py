"""Masking: what happens to personal data once it is found. Nothing outside a span ever changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tunery.data.config import DEFAULT_PII, CleanConfig, PiiType
from tunery.data.pii.detect import detect
from tunery.data.pii.json_text import is_json, quoted_numbers
from tunery.data.pii.spans import Span
from tunery.data.pii.surrogate import surrogate
from tunery.data.pii.vault import Mapping, Replaced


class Masked(NamedTuple):
    """Texts without their personal data."""

    texts: list[str]
    counts: Counter[PiiType]
    """Spans replaced by type [count]."""


def mask(texts: Sequence[str], types: Collection[PiiType] = DEFAULT_PII) -> Masked:
    """Replace personal data by placeholders such as ``<EMAIL_ADDRESS>``; nothing else changes.

    Args:
        texts: Any number of texts.
        types: What is replaced. By default that of a form of its own: names are masked on request only,
        because
            in a row that is to be classified a name is often what the class hangs on, and no reader of names
            is right every time.
    """
    return _replace(texts, types, lambda span, _: f"<{span.type}>", None)


def apply_policy(texts: Sequence[str], clean: CleanConfig) -> Masked:
    """Mask or replace personal data as the settings say for each kind.

    Args:
        texts: Any number of texts.
        clean: Its ``pii_`` settings are read. Where ``pii_mapping`` is set, what was replaced and by what is
            added to that file, encrypted; else nothing remembers it.

    Raises:
        ConfigError: The mapping is asked for, and there is no key to encrypt it with.
    """

    def replacement(span: Span, value: str) -> str:
        if clean.policy_of(span.type) == "surrogate":
            return surrogate(value, span.type, clean.pii_seed)
        return f"<{span.type}>"

    mapping = None if clean.pii_mapping is None else Mapping(Path(clean.pii_mapping))
    return _replace(texts, clean.pii_replaced, replacement, mapping)


def _replace(
    texts: Sequence[str],
    types: Collection[PiiType],
    replacement: Callable[[Span, str], str],
    mapping: Mapping | None = None,
) -> Masked:
    counts: Counter[PiiType] = Counter()
    masked: list[str] = []
    replaced: set[Replaced] = set()
    for text, spans in zip(texts, detect(texts, types), strict=True):
        if not spans:
            masked.append(text)
            continue
        counts.update(s.type for s in spans)
        values = [text[s.start : s.end] for s in spans]
        new = [replacement(s, v) for s, v in zip(spans, values, strict=True)]
        replaced.update(Replaced(s.type, v, n) for s, v, n in zip(spans, values, new, strict=True))
        masked.append(replace_spans(text, spans, new))
    if mapping is not None and replaced:
        mapping.add(replaced)
    return Masked(masked, counts)


def mask_spans(text: str, spans: Sequence[Span]) -> str:
    """Return ``text`` with each span replaced by its type in angle brackets.

    >>> mask_spans("write to a@b.org now", [Span(9, 16, "EMAIL_ADDRESS", 1.0)])
    'write to <EMAIL_ADDRESS> now'
    """
    return replace_spans(text, spans, [f"<{s.type}>" for s in spans])


def replace_spans(text: str, spans: Sequence[Span], replacements: Sequence[str]) -> str:
    """Return ``text`` with each span replaced.

    In a JSON object or list a bare number becomes a quoted placeholder, so that it stays valid JSON; a number
    that becomes a number needs no quotes.
    """
    changes: Iterable[tuple[int, int, str]] = (
        (s.start, s.end, new) for s, new in zip(spans, replacements, strict=True)
    )
    if is_json(text):
        changes = quoted_numbers(text, [(s.start, s.end) for s in spans], replacements)
    pieces, at = [], 0
    for start, end, new in changes:
        pieces += [text[at:start], new]
        at = end
    return "".join([*pieces, text[at:]])
