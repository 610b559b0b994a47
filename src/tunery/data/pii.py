"""Personal data: found by patterns with checksums, and masked by typed placeholders.

Names and places need a language model of their own and are not found here.
"""

from __future__ import annotations

import ipaddress
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from tunery.data.checksums import IBAN_COUNTRIES, iban_valid, is_card, ssn_issued
from tunery.data.config import ALL_PII, PiiType


class Span(NamedTuple):
    """One piece of personal data in a text."""

    start: int
    """First character."""
    end: int
    """One past the last character."""
    type: PiiType
    """Named as Presidio names it."""
    score: float
    """How sure: 1.0 where a checksum holds, less where only the form speaks, in (0, 1]."""


class _Hit(NamedTuple):
    """Which part of a match is the thing itself."""

    start: int
    end: int
    score: float


class _Pattern(NamedTuple):
    type: PiiType
    cue: str
    """What a text must hold to be worth searching: ``@``, ``0`` for a digit, ``6`` for six close together."""
    regex: re.Pattern[str]
    """Its group ``value`` is what is looked at; all of the match where there is no such group."""
    check: Callable[[str], _Hit | None]


def _whole(score: float) -> Callable[[str], _Hit | None]:
    return lambda text: _Hit(0, len(text), score)


def _check_iban(text: str) -> _Hit | None:
    return _Hit(0, len(text), 1.0) if iban_valid(text) else None


_CARD_GROUPS = 8
"""Cards are written in at most five groups; three more may stand beside them. Longer runs are tables."""


def _check_card(text: str) -> _Hit | None:
    """Find the card among groups of digits: an expiry date or a count may stand beside it."""
    groups = list(re.finditer(r"\d+", text))
    if len(groups) > _CARD_GROUPS:
        return None
    for size in range(len(groups), 0, -1):
        for first in range(len(groups) - size + 1):
            run = groups[first : first + size]
            if is_card("".join(g.group() for g in run)):
                return _Hit(run[0].start(), run[-1].end(), 1.0)
    return None


def _check_ssn(text: str) -> _Hit | None:
    area, group, serial = re.split(r"[- ]", text)
    return _Hit(0, len(text), 0.85) if ssn_issued(area, group, serial) else None


def _check_ip(text: str) -> _Hit | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # '::' and '0.0.0.0' name nobody; they are punctuation in code.
    return None if address.is_unspecified else _Hit(0, len(text), 0.95)


def _check_phone(text: str) -> _Hit | None:
    # A bare run of digits is a phone number only in the international form, with its plus sign.
    if not 7 <= sum(c.isdigit() for c in text) <= 20 or text.isdigit():
        return None
    return _Hit(0, len(text), 0.75 if text.startswith(("+", "00", "(")) else 0.6)


_DATE = re.compile(
    r"(?:19|20)\d\d[.-]?[01]\d[.-]?[0-3]\d|[0-3]?\d[.-][01]?\d[.-](?:19|20)\d\d"
)  # 2024-05-31, 20240531, 31.5.2024


def _check_cued_phone(text: str) -> _Hit | None:
    return None if _DATE.fullmatch(text) else _Hit(0, len(text), 0.7)


def _iban_forms() -> str:
    return "|".join(
        rf"(?:{'|'.join(countries.split())})\d{{2}}(?:[ -]?[A-Z0-9]){{{length - 4}}}"
        for length, countries in IBAN_COUNTRIES.items()
    )


_ALONE = r"(?<!\w)(?<!\d[.,/-])"
_ENDS = r"(?![\w/]|[.,-]\d)"
_LOOSE_NUMBER = r"(?P<value>(?:\+|\()?\d(?:[ ().-]{0,2}\d){5,14})"

_PATTERNS: tuple[_Pattern, ...] = (
    _Pattern(
        "URL",
        "@",
        re.compile(
            r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/@:<>\"']{1,64}:[^\s/@<>\"']{1,128}@[^\s<>\"']{1,256}", re.I
        ),
        _whole(1.0),
    ),
    _Pattern(
        "EMAIL_ADDRESS",
        "@",
        re.compile(
            r"(?<![\w.+%-])[A-Z0-9](?:[A-Z0-9._%+'-]{0,62}[A-Z0-9_+-])?"
            r"@(?:[A-Z0-9](?:[A-Z0-9-]{0,61}[A-Z0-9])?\.){1,8}[A-Z]{2,24}(?![\w-])",
            re.I,
        ),
        _whole(1.0),
    ),
    _Pattern(
        "IBAN_CODE", "0", re.compile(rf"(?<![A-Z0-9])(?:{_iban_forms()})(?![A-Z0-9])", re.I), _check_iban
    ),
    _Pattern("CREDIT_CARD", "6", re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){11,24}(?![\w-])"), _check_card),
    _Pattern("US_SSN", "6", re.compile(r"(?<![\w-])\d{3}([- ])\d{2}\1\d{4}(?![\w-])"), _check_ssn),
    _Pattern(
        "IP_ADDRESS",
        "0",
        re.compile(
            r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)"
            r"|(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])"
            r"|(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}(?![\w:]))",
            re.I,
        ),
        _check_ip,
    ),
    _Pattern(
        "PHONE_NUMBER",
        "6",
        re.compile(
            rf"{_ALONE}(?:"
            # +49 (30) 123-4567, 0049 30 1234567
            r"(?:\+[1-9]\d{0,2}[ .-]?|00[1-9]\d{0,2}[ .-])(?:\(?\d{1,5}\)?[ .-]?){1,5}\d{2,5}"
            # (555) 123-4567, 1-555-123-4567
            r"|(?:(?:00)?1[ .-])?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}"
            # (030) 123 456
            r"|\(\d{2,5}\)[ .-]?\d{3,4}(?:[ .-]?\d{2,4}){1,2}"
            # 07700 900 123, 03-8888 9999
            r"|0\d{1,4}[ -]\d{3,4}(?:[ .-]?\d{2,4}){1,2}"
            rf")(?:[ ]?(?:x|ext\.?)[ ]?\d{{1,5}})?{_ENDS}",
            re.I,
        ),
        _check_phone,
    ),
    # A number of any form beside a word that says what it is.
    _Pattern(
        "PHONE_NUMBER",
        "6",
        re.compile(
            r"\b(?:(?:tel(?:ephone)?|(?:tele|cell|mobile )?phone|mobile|fax|whatsapps?)\b[^\d\n+(]{0,16}"
            r"|(?:dial|call|reach|answering)(?: (?:me|us|him|her|them))?(?: (?:at|on))?:? )"
            rf"{_LOOSE_NUMBER}{_ENDS}",
            re.I,
        ),
        _check_cued_phone,
    ),
    _Pattern(
        "PHONE_NUMBER",
        "6",
        re.compile(rf"{_ALONE}{_LOOSE_NUMBER}[ -]{{1,2}}(?:office|fax|mobile|cell)\b", re.I),
        _check_cued_phone,
    ),
)
_DIGIT = re.compile(r"\d")
_SIX_DIGITS = re.compile(r"\d(?:\D{0,3}\d){5}")


def detect(texts: Sequence[str], types: Collection[PiiType] = ALL_PII) -> list[list[Span]]:
    """Find personal data in texts by its form, and by its checksum where it has one.

    Args:
        texts: Any number of texts.
        types: What to look for.

    Returns:
        For each text its spans, sorted, none overlapping; where two claim the same characters the surer one
        stays, then the longer one.
    """
    patterns = [p for p in _PATTERNS if p.type in types]
    return [_detect_one(text, patterns) for text in texts]


def _detect_one(text: str, patterns: Iterable[_Pattern]) -> list[Span]:
    cues = ("@" if "@" in text else "") + ("0" if _DIGIT.search(text) else "")
    if not cues:
        return []
    cues += "6" if "0" in cues and _SIX_DIGITS.search(text) else ""
    found = []
    for pattern in patterns:
        if pattern.cue not in cues:
            continue
        part: str | int = "value" if "value" in pattern.regex.groupindex else 0
        for match in pattern.regex.finditer(text):
            hit = pattern.check(match.group(part))
            if hit:
                at = match.start(part)
                found.append(Span(at + hit.start, at + hit.end, pattern.type, hit.score))
    return _without_overlaps(found) if len(found) > 1 else found


def _without_overlaps(spans: Iterable[Span]) -> list[Span]:
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (-s.score, s.start - s.end, s.start)):
        place = bisect_left(kept, span)
        after_previous = place == 0 or kept[place - 1].end <= span.start
        before_next = place == len(kept) or span.end <= kept[place].start
        if after_previous and before_next:
            kept.insert(place, span)
    return kept


class Masked(NamedTuple):
    """Texts without their personal data."""

    texts: list[str]
    counts: Counter[PiiType]
    """Spans replaced by type [count]."""


def mask(texts: Sequence[str], types: Collection[PiiType] = ALL_PII) -> Masked:
    """Replace personal data by placeholders such as ``<EMAIL_ADDRESS>``; nothing else changes."""
    counts: Counter[PiiType] = Counter()
    masked = []
    for text, spans in zip(texts, detect(texts, types), strict=True):
        counts.update(s.type for s in spans)
        masked.append(mask_spans(text, spans) if spans else text)
    return Masked(masked, counts)


def mask_spans(text: str, spans: Sequence[Span]) -> str:
    """Return ``text`` with each span replaced by its type in angle brackets.

    In a JSON object or list a bare number becomes a quoted placeholder, so that it stays valid JSON.

    >>> mask_spans("write to a@b.org now", [Span(9, 16, "EMAIL_ADDRESS", 1.0)])
    'write to <EMAIL_ADDRESS> now'
    """
    in_json = text[:1] in ("{", "[") and _is_json(text)
    pieces, at = [], 0
    for span in spans:
        bare = in_json and len(_QUOTE.findall(text, 0, span.start)) % 2 == 0
        pieces += [text[at : span.start], f'"<{span.type}>"' if bare else f"<{span.type}>"]
        at = span.end
    return "".join([*pieces, text[at:]])


# A quote that opens or closes a JSON string: an even number of backslashes stands before it.
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
