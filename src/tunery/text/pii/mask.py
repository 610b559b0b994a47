"""Masking: what happens to personal data once it is found. Nothing outside a span ever changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from tunery.text.pii.detect import detect
from tunery.text.pii.json_text import is_json, quoted_numbers
from tunery.text.pii.types import DEFAULT_PII, PiiType, Span
from tunery.text.pii.vault import Mapping, Replaced


class Masked(NamedTuple):
    """Texts without their personal data."""

    texts: list[str]
    counts: Counter[PiiType]
    """Spans replaced by type [count]."""
    types: list[frozenset[PiiType]]
    """What was replaced in each text."""


def mask(texts: Sequence[str], types: Collection[PiiType] = DEFAULT_PII) -> Masked:
    """Replace personal data by placeholders such as ``<EMAIL_ADDRESS>``; nothing else changes.

    Args:
        texts: Any number of texts.
        types: What is replaced. By default that of a form of its own. Names are masked on request only: in a
            row that is to be classified the class often hangs on a name, and no reader of names is right each
            time.
    """
    return replace_found(texts, types, lambda span, _: f"<{span.type}>", None)


def replace_found(
    texts: Sequence[str],
    types: Collection[PiiType],
    replacement: Callable[[Span, str], str],
    mapping: Mapping | None = None,
) -> Masked:
    """Replace each piece of personal data by what ``replacement`` makes of it.

    Args:
        texts: Any number of texts.
        types: What is replaced.
        replacement: Takes a span and its text, returns what stands in its place.
        mapping: Where what was replaced, and by what, is remembered; None remembers nothing.
    """
    counts: Counter[PiiType] = Counter()
    masked: list[str] = []
    types_of: list[frozenset[PiiType]] = []
    replaced: set[Replaced] = set()
    for text, spans in zip(texts, detect(texts, types), strict=True):
        types_of.append(frozenset(s.type for s in spans))
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
    return Masked(masked, counts, types_of)


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


def redact(text: str) -> str:
    """Return one text masked as by default."""
    return mask([text]).texts[0]


RAW_CHARS = 12_000
"""What is kept of a value that is to be shortened until personal data is masked in it: the longest thing that
is known by its form, a private key, fits in before the cut [characters]."""


_SHOWN_CHARS = 60


def redacted_repr(value: Any) -> str:
    """Return a value as it appears in a message: its repr without personal data, at most 60 characters."""
    text = mask([repr(value)[:RAW_CHARS]]).texts[0]
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "…"
