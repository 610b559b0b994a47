"""Personal data: found by patterns with checksums, and masked by typed placeholders.

Names and places need a language model of their own and are not found here.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

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
    """How sure: 1.0 checksum holds, less where only the form speaks, in (0, 1]."""


class _Pattern(NamedTuple):
    type: PiiType
    regex: re.Pattern[str]
    score: Callable[[str], float]
    """Of the matched text; 0 refuses it."""
    cue: str
    """A character that every match contains; texts without it are passed over. '0' means any digit."""


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def luhn(number: str) -> bool:
    """Tell whether digits satisfy the check that payment cards carry (ISO/IEC 7812-1, annex B).

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_valid(text: str) -> bool:
    """Tell whether an IBAN's two check digits hold: rearranged, it is 1 modulo 97 (ISO 13616-1).

    >>> iban_valid("GB82 WEST 1234 5698 7654 32"), iban_valid("GB83 WEST 1234 5698 7654 32")
    (True, False)
    """
    code = re.sub(r"[ -]", "", text).upper()
    if len(code) != _IBAN_LENGTH.get(code[:2]):
        return False
    return int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


# Length by country, from the SWIFT IBAN registry [characters].
_IBAN_LENGTH = {
    country: int(length)
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def _score_card(text: str) -> float:
    digits = _digits(text)
    # Issuer ranges by first digit: 3 Amex, Diners, JCB; 4 Visa; 5 and 2 Mastercard; 6 Discover, UnionPay.
    plausible = 13 <= len(digits) <= 19 and digits[0] in "23456" and len(set(digits)) > 1
    return 1.0 if plausible and luhn(digits) else 0.0


def _score_ssn(text: str) -> float:
    area, group, serial = re.split(r"[- ]", text)
    never_issued = area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000"
    return 0.0 if never_issued else 0.85


def _score_ip(text: str) -> float:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0.0
    # '::' and '0.0.0.0' name nobody; they are punctuation in code.
    return 0.0 if address.is_unspecified else 0.95


def _score_phone(text: str) -> float:
    count = len(_digits(text))
    if not 7 <= count <= 15:
        return 0.0
    return 0.75 if text.startswith(("+", "00")) else 0.6


_PATTERNS: tuple[_Pattern, ...] = (
    _Pattern(
        "URL",
        re.compile(
            r"\b[a-z][a-z0-9+.-]{1,15}://[^\s/@:<>\"']{1,64}:[^\s/@<>\"']{1,128}@[^\s<>\"']{1,256}", re.I
        ),
        lambda _: 1.0,
        "@",
    ),
    _Pattern(
        "EMAIL_ADDRESS",
        re.compile(
            r"(?<![\w.+%-])[A-Z0-9](?:[A-Z0-9._%+'-]{0,62}[A-Z0-9_+-])?"
            r"@(?:[A-Z0-9](?:[A-Z0-9-]{0,61}[A-Z0-9])?\.){1,8}[A-Z]{2,24}(?![\w-])",
            re.I,
        ),
        lambda _: 1.0,
        "@",
    ),
    _Pattern(
        "IBAN_CODE",
        re.compile(
            r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?(?![A-Z0-9])", re.I
        ),
        lambda text: 1.0 if iban_valid(text) else 0.0,
        "0",
    ),
    _Pattern(
        "CREDIT_CARD",
        re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d-])"),
        _score_card,
        "0",
    ),
    _Pattern("US_SSN", re.compile(r"(?<![\d-])\d{3}([- ])\d{2}\1\d{4}(?![\d-])"), _score_ssn, "0"),
    _Pattern(
        "IP_ADDRESS",
        re.compile(
            r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)"
            r"|(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}(?![\w:])"
            r"|(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}(?![\w:]))",
            re.I,
        ),
        _score_ip,
        "0",
    ),
    _Pattern(
        "PHONE_NUMBER",
        re.compile(
            r"(?<![\w.,/-])(?:"
            r"(?:\+|00)[1-9]\d{0,2}(?:[ .-]?\(?\d{1,5}\)?){2,6}"  # +49 (30) 123-4567
            r"|(?:1[ .-])?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}"  # (555) 123-4567
            r"|\(0\d{1,4}\)[ .-]?\d{3,4}(?:[ .-]?\d{2,4}){1,2}"  # (030) 123 456
            r"|0\d{1,4}[ -]\d{3,4}(?:[ .-]?\d{2,4}){1,2}"  # 07700 900 123, 03-8888 9999
            r")(?:[ ]?(?:x|ext\.?)[ ]?\d{1,5})?(?![\w/]|[.,-]\d)",
            re.I,
        ),
        _score_phone,
        "0",
    ),
)  # fmt: skip
_HAS_DIGIT = re.compile(r"\d")


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
    has_digit = _HAS_DIGIT.search(text) is not None
    has_at = "@" in text
    if not has_digit and not has_at:
        return []
    found = []
    for pattern in patterns:
        if not (has_at if pattern.cue == "@" else has_digit):
            continue
        for match in pattern.regex.finditer(text):
            score = pattern.score(match.group())
            if score:
                found.append(Span(match.start(), match.end(), pattern.type, score))
    return _without_overlaps(found) if len(found) > 1 else found


def _without_overlaps(spans: Iterable[Span]) -> list[Span]:
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (-s.score, s.start - s.end, s.start)):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept)


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
