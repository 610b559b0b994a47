"""Numbers that states, banks and clinics give out: their form, their checksum, the words before them.

A number without a checksum, or one so short that its checksum passes often, counts only after a word that
names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tunery.text.pii.checksums import itin_issued, known, luhn, segwit_valid
from tunery.text.pii.types import Pattern, PiiType, checked

_ALONE, _ENDS = r"(?<![\w-])", r"(?![\w-])"
_TO = r"[^\w\n]{0,4}(?:(?:is|was|no|nr|number|card|code|id)\b[^\w\n]{0,4}){0,3}"
"""What may stand between the word that names a number and the number."""


def _form(kind: PiiType, form: str, check: Callable[[str], bool], score: float = 1.0, *words: str) -> Pattern:
    """Return a pattern for a form that a checksum confirms; separators are taken out before the check."""
    regex = re.compile(rf"{_ALONE}{form}{_ENDS}", re.I)
    return Pattern(kind, "0", regex, checked(lambda t: check(re.sub(r"[ .-]", "", t)), score), words)


def _named(kind: PiiType, names: str, form: str, words: tuple[str, ...], score: float = 0.8) -> Pattern:
    """Return a pattern for a form that only a name before it tells from any other number."""
    regex = re.compile(rf"\b(?:{names}){_TO}(?P<value>{form}){_ENDS}", re.I)
    return Pattern(kind, "0", regex, checked(lambda _: True, score), words)


NUMBERS: tuple[Pattern, ...] = (
    _form("US_SSN", r"\d{3}([- ])\d{2}\1\d{4}", known("us.ssn"), 0.85),
    _form("US_ITIN", r"9\d\d([- ])\d{2}\1\d{4}", lambda d: itin_issued(d[:3], d[3:5]), 0.85),
    _named(
        "US_SSN", r"ssn|social security|soc(?:ial)? sec", r"\d{3}[-. ]?\d{2}[-. ]?\d{4}", ("ssn", "soc"), 0.7
    ),
    _named(
        "US_DRIVER_LICENSE",
        r"driver'?s?'?s?[ -]?licen[cs]e|driving[ -]?licen[cs]e|(?:licen[cs]e|dl) (?:no|nr|number)",
        r"[A-Z]{0,2}\d(?:[ -]?\d){3,15}[A-Z]?",
        ("licen", "dl "),
    ),
    _named("US_PASSPORT", r"passport", r"[A-Z]{0,2}\d{6,9}", ("passport",)),
    _named(
        "US_BANK_NUMBER",
        r"(?:bank |checking |savings )?acc(?:oun)?t\.?",
        r"\d(?:[ -]?\d){7,16}",
        ("acc",),
        0.6,
    ),
    _named(
        "MEDICAL_RECORD",
        r"mrn|medical record|patient (?:id|no|number)",
        r"[A-Z]{0,3}-?\d{4,12}",
        ("mrn", "medical", "patient"),
    ),
    Pattern(
        "MEDICAL_RECORD",
        "0",
        re.compile(rf"{_ALONE}MRN-?\d{{4,12}}{_ENDS}", re.I),
        checked(lambda _: True, 0.9),
        ("mrn",),
    ),
    Pattern(
        "US_NPI",
        "6",
        re.compile(rf"\bNPI\b{_TO}(?P<value>[12]\d{{9}}){_ENDS}", re.I),
        checked(lambda d: luhn("80840" + d), 1.0),
        ("npi",),
    ),
    _form("UK_NHS", r"\d{3}([- ])\d{3}\1\d{4}", known("gb.nhs"), 1.0, "nhs", "patient"),
    _form(
        "UK_NINO",
        r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z](?: ?\d\d){3} ?[A-D]",
        lambda _: True,
        0.8,
    ),
    _form("ES_NIF", r"\d{8}-?[A-HJ-NP-TV-Z]", known("es.dni")),
    _form("ES_NIE", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", known("es.nie")),
    _form("IT_FISCAL_CODE", r"[A-Z]{6}\d\d[A-EHLMPR-T][0-7]\d[A-Z]\d{3}[A-Z]", known("it.codicefiscale")),
    _form("PL_PESEL", r"\d{11}", known("pl.pesel"), 1.0, "pesel"),
    _form("BR_CPF", r"\d{3}\.\d{3}\.\d{3}-\d\d", known("br.cpf")),
    _form("BR_CPF", r"\d{11}", known("br.cpf"), 1.0, "cpf"),
    _form("NL_BSN", r"\d{9}", known("nl.bsn"), 1.0, "bsn", "burgerservice"),
    _form("FR_NIR", r"[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", known("fr.nir")),
    _form("CH_AHV", r"756\.?\d{4}\.?\d{4}\.?\d\d", known("ch.ssn")),
    _form("DE_TAX_ID", r"\d\d ?\d{3} ?\d{3} ?\d{3}", known("de.idnr"), 1.0, "steuer", "tax", "idnr"),
    Pattern(
        "FI_PERSONAL_IDENTITY_CODE",
        "0",
        re.compile(rf"{_ALONE}[0-3]\d[01]\d{{3}}[-+A]\d{{3}}[0-9A-FHJ-NPR-Y]{_ENDS}", re.I),
        checked(known("fi.hetu"), 1.0),
    ),
    _form("SE_PERSONNUMMER", r"(?:19|20)?\d\d[01]\d[0-3]\d[-+]\d{4}", known("se.personnummer")),
    _form("IN_AADHAAR", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", known("in_.aadhaar")),
    _form("IN_AADHAAR", r"[2-9]\d{11}", known("in_.aadhaar"), 1.0, "aadha"),
    _form("IN_PAN", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", lambda _: True, 0.7, "pan"),
    Pattern(
        "CRYPTO",
        "0",
        re.compile(rf"{_ALONE}[13][1-9A-HJ-NP-Za-km-z]{{25,34}}{_ENDS}"),
        checked(known("bitcoin"), 1.0),
    ),
    Pattern(
        "CRYPTO",
        "0",
        re.compile(rf"{_ALONE}bc1[02-9ac-hj-np-z]{{11,71}}{_ENDS}", re.I),
        checked(segwit_valid, 1.0),
        ("bc1",),
    ),
    Pattern(
        "CRYPTO",
        "0",
        re.compile(rf"{_ALONE}0x[0-9a-f]{{40}}{_ENDS}", re.I),
        checked(lambda _: True, 0.9),
        ("0x",),
    ),
    Pattern(
        "MAC_ADDRESS",
        "0",
        re.compile(rf"{_ALONE}[0-9a-f]{{2}}(?:([:-])[0-9a-f]{{2}})(?:\1[0-9a-f]{{2}}){{4}}{_ENDS}", re.I),
        checked(lambda _: True, 0.9),
    ),
)
