"""Surrogates: made-up values in the place of personal data, of the same shape, the same for the same value.

A row keeps its form, so a model still learns to copy a name or to repeat a card number. The draw is a hash of
the value under the seed: one seed gives one dataset version, and nothing needs to be remembered. Whoever
knows the seed can try out values and see whether they match, so this is a pseudonym, no secret; for a secret,
mask.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache
from hashlib import blake2b

from tunery.text.pii.checksums import iban_check_digits, luhn
from tunery.text.pii.tokens import GAZETTEER, TOKEN, gazetteer
from tunery.text.pii.types import PiiType

_TITLES = frozenset(
    {
        "mr", "mrs", "ms", "miss", "dr", "prof", "sir", "madam", "st", "jr", "sr", "ii", "iii",
        "iv", "van", "von", "der", "den", "de", "la", "le", "di", "da", "bin", "al", "el"
    }
)  # fmt: skip
_KEPT_OF_PLACES = frozenset(
    {
        "street", "st", "road", "rd", "avenue", "ave", "lane", "ln", "drive", "suite", "apt",
        "unit", "flat", "box", "po", "floor", "north", "south", "east", "west", "of", "the"
    }
)  # fmt: skip


class _Draw:
    """Numbers that depend on a seed, a kind and a value only."""

    def __init__(self, seed: int, kind: str, value: str) -> None:
        self._state = blake2b(f"{seed}\0{kind}\0{value}".encode("utf-8", "surrogatepass"), digest_size=32)

    def below(self, limit: int) -> int:
        self._state.update(b".")
        return int.from_bytes(self._state.digest()[:8], "big") % limit


def surrogate(value: str, kind: PiiType, seed: int) -> str:
    """Return the surrogate of a value.

    Digits become digits and letters letters, separators stay. Cards, IBANs keep a valid checksum, so that
    forms that check it still pass; e-mail addresses end in ``.example`` and network addresses come from the
    ranges kept for documentation, so that none belongs to anybody; social security numbers begin with 9,
    which is never issued. Names are drawn word by word: ``Anna Smith`` and ``Anna`` stay the same Anna.

    Args:
        value: What stands in the text.
        kind: Its type.
        seed: Another seed draws other surrogates.

    >>> surrogate("Anna Smith", "PERSON", 0).startswith(surrogate("Anna", "PERSON", 0))
    True
    """
    if kind in ("PERSON", "LOCATION", "ORGANIZATION"):
        return _words(value, kind, seed)
    draw = _Draw(seed, kind, re.sub(r"[\s().-]", "", value).lower())
    special = _SPECIAL.get(kind)
    return special(value, draw) if special else _shape(value, draw)


def _shape(value: str, draw: _Draw) -> str:
    """Replace each digit by a digit and each letter by a letter of the same case."""
    chars = []
    for char in value:
        if char.isdecimal():
            chars.append(str(draw.below(10)))
        elif char.isalpha():
            letter = chr(ord("a") + draw.below(26))
            chars.append(letter.upper() if char.isupper() else letter)
        else:
            chars.append(char)
    return "".join(chars)


def _refill(value: str, digits: str) -> str:
    """Put digits in the place of a value's own."""
    rest = iter(digits)
    return "".join(next(rest) if c.isdecimal() else c for c in value)


def _card(value: str, draw: _Draw) -> str:
    digits = [c for c in value if c.isdecimal()]
    body = "".join(digits[:1]) + "".join(str(draw.below(10)) for _ in digits[2:])
    return _refill(value, next(body + d for d in "0123456789" if luhn(body + d)))


def _iban(value: str, draw: _Draw) -> str:
    code = re.sub(r"[ -]", "", value).upper()
    new = code[:2] + "00" + _shape(code[4:], draw)
    new = new[:2] + iban_check_digits(new) + new[4:]
    rest = iter(new)
    return "".join((next(rest) if c.isupper() else next(rest).lower()) if c.isalnum() else c for c in value)


def _ssn(value: str, draw: _Draw) -> str:
    return _refill(
        value, "9" + "".join(str(draw.below(10)) for _ in range(sum(map(str.isdecimal, value)) - 1))
    )


def _email(value: str, draw: _Draw) -> str:
    local, _, domain = value.rpartition("@")
    return f"{_shape(local, draw)}@{_shape(domain.split('.')[0], draw)}.example"


def _ip(value: str, draw: _Draw) -> str:
    if ":" in value:
        return str(ipaddress.ip_address((0x20010DB8 << 96) + draw.below(1 << 64)))
    return f"{('192.0.2', '198.51.100', '203.0.113')[draw.below(3)]}.{1 + draw.below(254)}"


def _phone(value: str, draw: _Draw) -> str:
    """Keep the plus sign's country code, or the first digit: it says how the number is dialled."""
    kept = re.match(r"\+\d{1,2}|\D*\d", value)
    head = kept.group() if kept else ""
    return head + _shape(value[len(head) :], draw)


def _url(value: str, draw: _Draw) -> str:
    scheme, mark, rest = value.partition("://")
    host, slash, path = rest.partition("/") if mark else value.partition("/")
    name = _shape(host.rpartition(".")[0] or host, draw)
    return f"{scheme + mark if mark else ''}{name}.example{slash}{_shape(path, draw)}"


def _date(value: str, draw: _Draw) -> str:
    """Keep the form: pairs of digits become 01 to 12, which fits day, month and hour; years stay near."""

    def number(match: re.Match[str]) -> str:
        text = match.group()
        if len(text) == 4:
            return text[:3] + str(draw.below(10))
        return f"{1 + draw.below(12):0{len(text)}d}" if len(text) == 2 else str(1 + draw.below(9))

    return re.sub(r"\d+", number, value)


_SPECIAL = {
    "CREDIT_CARD": _card,
    "IBAN_CODE": _iban,
    "US_SSN": _ssn,
    "EMAIL_ADDRESS": _email,
    "IP_ADDRESS": _ip,
    "PHONE_NUMBER": _phone,
    "URL": _url,
    "DATE_TIME": _date,
}


@cache
def _names(bit: int) -> tuple[str, ...]:
    """Return the plain words of one list, those of no other before all."""
    return tuple(
        sorted(w for w, bits in gazetteer().items() if bits == bit and w.isascii() and 3 <= len(w) <= 9)
    )


def _words(value: str, kind: PiiType, seed: int) -> str:
    """Replace word by word, so that parts of a name keep their surrogate where they stand alone.

    Titles and words such as ``street`` stay beside other words; a name of nothing else is replaced whole.
    """
    common = _TITLES if kind == "PERSON" else _KEPT_OF_PLACES

    def stays(low: str) -> bool:
        company = kind == "ORGANIZATION" and gazetteer().get(low, 0) & GAZETTEER["company"]
        return low in common or bool(company)

    bare = all(stays(w.group().lower()) for w in TOKEN.finditer(value) if w.group()[0].isalpha())

    def word(match: re.Match[str]) -> str:
        text = match.group()
        low = text.lower()
        draw = _Draw(seed, kind, low)
        if not text[0].isalpha():
            return _shape(text, draw)
        if stays(low) and not bare:
            return text
        bits = gazetteer().get(low, 0)
        if len(text) == 1:
            return _shape(text, draw)
        list_ = "city" if kind != "PERSON" else "first" if bits & GAZETTEER["first"] else "last"
        names = _names(GAZETTEER[list_])
        drawn = names[draw.below(len(names))]
        if drawn == low:
            drawn = names[draw.below(len(names))]
        return drawn.upper() if text.isupper() else drawn if text.islower() else drawn.capitalize()

    return TOKEN.sub(word, value)
