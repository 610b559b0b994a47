"""Types of personal data, where one stands in a text, and what happens to it."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol, get_args

NamePii = Literal["PERSON", "LOCATION", "ORGANIZATION"]
PiiType = Literal[
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "CRYPTO",
    "SECRET",
    "US_SSN",
    "US_ITIN",
    "US_DRIVER_LICENSE",
    "US_PASSPORT",
    "US_BANK_NUMBER",
    "US_NPI",
    "MEDICAL_RECORD",
    "UK_NHS",
    "UK_NINO",
    "ES_NIF",
    "ES_NIE",
    "IT_FISCAL_CODE",
    "PL_PESEL",
    "BR_CPF",
    "NL_BSN",
    "FR_NIR",
    "CH_AHV",
    "DE_TAX_ID",
    "FI_PERSONAL_IDENTITY_CODE",
    "SE_PERSONNUMMER",
    "IN_AADHAAR",
    "IN_PAN",
    "URL",
    "DATE_TIME",
    "NRP",
    "PERSON",
    "LOCATION",
    "ORGANIZATION",
]
PiiPolicy = Literal["mask", "surrogate", "drop", "keep"]
ALL_PII: tuple[PiiType, ...] = get_args(PiiType)
NAME_PII: tuple[NamePii, ...] = get_args(NamePii)
DEFAULT_PII: tuple[PiiType, ...] = tuple(
    t for t in ALL_PII if t not in ("URL", "DATE_TIME", "NRP", *NAME_PII)
)
"""What has a form of its own and belongs to somebody. Addresses of web pages, dates and names are masked on
request: they are often what an answer hangs on, and names cannot be told by their form."""


class Span(NamedTuple):
    """One piece of personal data in a text."""

    start: int
    """First character."""
    end: int
    """One past the last character."""
    type: PiiType
    """Named as Presidio names it, where it has a name for it."""
    score: float
    """How sure: 1.0 where a checksum holds, less where only the form or the words around speak, in (0, 1]."""


class _Placed(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


def is_free(taken: Sequence[_Placed], start: int, end: int) -> bool:
    """Tell whether nothing in ``taken``, sorted and without overlaps, has one of these characters."""
    after = bisect_left(taken, end, key=lambda s: s.start)  # only the last one that begins before matters
    return after == 0 or taken[after - 1].end <= start


def without_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Return spans sorted, none overlapping: a secret stays, then the surer, longer, first."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.type != "SECRET", -s.score, s.start - s.end, s.start)):
        if is_free(kept, span.start, span.end):
            insort(kept, span)
    return kept


class Hit(NamedTuple):
    """Which part of a match is the thing itself."""

    start: int
    end: int
    score: float


class Pattern(NamedTuple):
    """How one kind of personal data is written."""

    type: PiiType
    cue: str
    """What a text must hold: ``@``, ``/`` for ``://`` or ``www.``, ``0`` for a digit, ``6`` for six close
    together; nothing where empty."""
    regex: re.Pattern[str]
    """Its group ``value`` is what is looked at; all of the match where there is no such group."""
    check: Callable[[str], Hit | None]
    words: tuple[str, ...] = ()
    """Of which the text, in small letters, must hold one; none asked for where empty."""


def checked(holds: Callable[[str], bool], score: float) -> Callable[[str], Hit | None]:
    """Return a check that takes the whole match where ``holds`` says so.

    Forms match in other alphabets too (``ſ`` for s, Arabic digits); no number is written in those.
    """
    return lambda text: Hit(0, len(text), score) if text.isascii() and holds(text) else None
