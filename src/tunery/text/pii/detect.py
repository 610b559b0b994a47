"""One detector: forms and checksums for numbers and addresses, a small network for names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from tunery.text.pii.json_text import is_json, without_escapes
from tunery.text.pii.national_ids import NUMBERS
from tunery.text.pii.patterns import FORMS
from tunery.text.pii.secrets import MAY_BE_SECRET, find_secrets
from tunery.text.pii.types import ALL_PII, NAME_PII, Pattern, PiiType, Span, is_free, without_overlaps

NAME_THRESHOLD = 0.5
"""Probability from which a token is taken for a name. A lower one finds hardly more and errs more."""

_DIGIT = re.compile(r"\d")
_SIX_DIGITS = re.compile(r"\d(?:\D{0,3}\d){5}")


def detect(texts: Sequence[str], types: Collection[PiiType] | None = None) -> list[list[Span]]:
    """Find personal data in texts.

    Numbers and addresses are known by their form, and by their checksum where they have one. Names of people,
    places and organisations are read by a small network from the words around them, at a few thousand short
    texts a second; where no name is asked for, texts without a digit, an ``@`` or a ``://`` cost next to
    nothing.

    Args:
        texts: Any number of texts; many at once are read faster than one by one.
        types: What to look for; None for everything.

    Returns:
        For each text its spans, sorted, none overlapping; where two claim the same characters the surer one
        stays, then the longer one. A name never takes characters from a number or an address.

    >>> detect(["write to a@b.org"])
    [[Span(start=9, end=16, type='EMAIL_ADDRESS', score=1.0)]]
    """
    wanted = frozenset(ALL_PII if types is None else types)
    plan = _plan(wanted)
    found = [_detect_one(text, plan) for text in texts]
    for i, text in enumerate(texts):
        if "\\" in text:
            found[i] = _with_escapes(text, found[i], plan)
    if wanted.isdisjoint(NAME_PII):
        return found
    # Imported here: numpy takes longer to import than the patterns take for a thousand texts.
    from tunery.text.pii.names import name_model

    read = [without_escapes(t) if is_json(t) else t for t in texts]
    named = name_model().find(read, NAME_THRESHOLD)
    for spans, names in zip(found, named, strict=True):
        free = [
            Span(name.start, name.end, name.label, name.score)
            for name in names
            if name.label in wanted and is_free(spans, name.start, name.end)
        ]
        if free:
            spans += free
            spans.sort()
    return found


class _DetectionPlan(NamedTuple):
    """What to look for, by what a text must hold."""

    anywhere: tuple[Pattern, ...]
    cued: tuple[Pattern, ...]
    pages: bool
    """Whether a pattern's cue is ``/``."""
    secrets: bool


@lru_cache(maxsize=64)
def _plan(types: frozenset[PiiType]) -> _DetectionPlan:
    chosen = [p for p in (*FORMS, *NUMBERS) if p.type in types]
    cued = tuple(p for p in chosen if p.cue)
    return _DetectionPlan(
        tuple(p for p in chosen if not p.cue), cued, any(p.cue == "/" for p in cued), "SECRET" in types
    )


def _detect_one(text: str, plan: _DetectionPlan) -> list[Span]:
    cues = "@" if "@" in text else ""
    if plan.pages and ("://" in text or "www." in text):
        cues += "/"
    if _DIGIT.search(text):
        cues += "06" if _SIX_DIGITS.search(text) else "0"
    found: list[Span] = []
    if cues and plan.cued:
        low = text.lower()
        for pattern in plan.cued:
            if pattern.cue in cues and (not pattern.words or any(w in low for w in pattern.words)):
                found += _matches(text, pattern)
    for pattern in plan.anywhere:
        found += _matches(text, pattern)
    if plan.secrets and MAY_BE_SECRET.search(text):
        found += [Span(s.start, s.end, "SECRET", 1.0) for s in find_secrets(text)]
    return without_overlaps(found) if len(found) > 1 else found


def _with_escapes(text: str, spans: list[Span], plan: _DetectionPlan) -> list[Span]:
    """Return what stands in a text, its escapes read: in JSON ``\\n`` is a line end, elsewhere it may be.

    A number behind it would else hide, being no word of its own.
    """
    plain = without_escapes(text)
    if plain is text:
        return spans
    seen = _detect_one(plain, plan._replace(secrets=False))  # whose own search has read the escapes already
    kept = [s for s in spans if s.type == "SECRET"] if is_json(text) else spans
    return without_overlaps([*kept, *seen])


def _matches(text: str, pattern: Pattern) -> Iterator[Span]:
    part: str | int = "value" if "value" in pattern.regex.groupindex else 0
    for match in pattern.regex.finditer(text):
        hit = pattern.check(match.group(part))
        if hit:
            at = match.start(part)
            yield Span(at + hit.start, at + hit.end, pattern.type, hit.score)
