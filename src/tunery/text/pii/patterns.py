"""Personal data with a form of its own: addresses, payment cards, accounts, telephone numbers, dates."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from tunery.text.pii.checksums import IBAN_COUNTRIES, iban_valid, is_card
from tunery.text.pii.types import Hit, Pattern, checked


def _always(score: float) -> Callable[[str], Hit | None]:
    return lambda text: Hit(0, len(text), score)


_CARD_GROUPS = 8
"""Cards are written in at most five groups; three more may stand beside them. Longer runs are tables."""


def _check_card(text: str) -> Hit | None:
    """Find the card among groups of digits: an expiry date or a count may stand beside it."""
    groups = list(re.finditer(r"\d+", text))
    if len(groups) > _CARD_GROUPS:
        return None
    for size in range(len(groups), 0, -1):
        for first in range(len(groups) - size + 1):
            run = groups[first : first + size]
            if is_card("".join(g.group() for g in run)):
                return Hit(run[0].start(), run[-1].end(), 1.0)
    return None


def _check_ip(text: str) -> Hit | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # '::' and '0.0.0.0' name nobody, and 127.0.0.1 is whatever machine reads it: code needs them.
    return None if address.is_unspecified or address.is_loopback else Hit(0, len(text), 0.95)


def _check_phone(text: str) -> Hit | None:
    # A bare run of digits is a phone number only in the international form, with its plus sign.
    if not 7 <= sum(c.isdigit() for c in text) <= 20 or text.isdigit():
        return None
    return Hit(0, len(text), 0.75 if text.startswith(("+", "00", "(")) else 0.6)


_DATE = re.compile(
    r"(?:19|20)\d\d[.-]?[01]\d[.-]?[0-3]\d|[0-3]?\d[.-][01]?\d[.-](?:19|20)\d\d"
)  # 2024-05-31, 20240531, 31.5.2024


def _check_cued_phone(text: str) -> Hit | None:
    return None if _DATE.fullmatch(text) else Hit(0, len(text), 0.7)


def _iban_forms() -> str:
    return "|".join(
        rf"(?:{'|'.join(countries.split())})\d{{2}}(?:[ -]?[A-Z0-9]){{{length - 4}}}"
        for length, countries in IBAN_COUNTRIES.items()
    )


_MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_TIME = r"(?:(?:,? (?:at )?|T)[0-2]?\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z| ?[ap]m)?)?"
_DATE_FORMS = (
    r"(?:(?:19|20)\d\d([-/.])[01]?\d\1[0-3]?\d"  # 1987-03-02
    r"|[0-3]?\d([-/.])[0-3]?\d\2(?:19|20)?\d\d"  # 3/2/1987
    rf"|[0-3]?\d(?:st|nd|rd|th)?(?: of)?[ -]{_MONTHS}[ ,-]{{1,2}}(?:19|20)\d\d"  # 2nd of March, 1987
    rf"|{_MONTHS}\.? [0-3]?\d(?:st|nd|rd|th)?,? (?:19|20)\d\d"  # March 2, 1987
    rf"|{_MONTHS}[ /](?:19|20)\d\d)"
)
PEOPLES = (
    "Afghan|African|Albanian|Algerian|American|Arab|Argentinian|Argentine|Armenian|Asian|Australian|Austrian|Bangladeshi"
    "|Belarusian|Belgian|Bolivian|Bosnian|Brazilian|British|Briton|Bulgarian|Cambodian|Canadian|Chilean|Chinese"
    "|Colombian|Croatian|Cuban|Czech|Danish|Dutch|Ecuadorian|Egyptian|English|Eritrean|Estonian|Ethiopian|European"
    "|Filipino|Filipina|Finnish|French|Georgian|German|Ghanaian|Greek|Guatemalan|Haitian|Honduran|Hungarian|Icelandic"
    "|Indian|Indonesian|Iranian|Iraqi|Irish|Israeli|Italian|Jamaican|Japanese|Jordanian|Kazakh|Kenyan|Korean|Kurdish"
    "|Kuwaiti|Latvian|Lebanese|Libyan|Lithuanian|Malaysian|Maltese|Mexican|Moldovan|Mongolian|Moroccan|Nepali"
    "|Nigerian|Norwegian|Pakistani|Palestinian|Peruvian|Polish|Portuguese|Roma|Romanian|Russian|Saudi|Scottish|Senegalese"
    "|Serbian|Singaporean|Slovak|Slovenian|Somali|Spanish|Sudanese|Swedish|Swiss|Syrian|Taiwanese|Thai|Tibetan"
    "|Tunisian|Turkish|Ukrainian|Uruguayan|Uzbek|Venezuelan|Vietnamese|Welsh|Zambian|Zimbabwean"
    "|Anglican|Atheist|Baptist|Buddhist|Catholic|Christian|Hindu|Jewish|Lutheran|Methodist|Mormon|Muslim|Orthodox"
    "|Protestant|Sikh|Communist|Conservative|Democrat|Republican|Socialist"
)
"""Peoples, faiths and parties, as adjectives; they count only where the words around speak of a person."""
_ALONE = r"(?<!\w)(?<!\d[.,/-])"
_ENDS = r"(?![\w/]|[.,-]\d)"
_LOOSE_NUMBER = r"(?P<value>(?:\+|\()?\d(?:[ ().-]{0,2}\d){5,14})"

_MAIL = r"0-9A-Za-z_\u00c0-\u024f\u0370-\u052f"
"""Letters of mail addresses in alphabets that part words by spaces; elsewhere none would have a start."""
FORMS: tuple[Pattern, ...] = (
    Pattern(
        "URL",
        "/",
        re.compile(r"\bhttps?://[^\s<>\"'`{}|]{3,2048}(?<![.,;:!?)\]])", re.I),
        _always(0.6),
    ),
    Pattern(
        "URL",
        "/",
        re.compile(
            r"(?<![\w@./-])www\.[\w-]{1,63}(?:\.[\w-]{2,63}){1,4}(?:/[^\s<>\"']{0,500}(?<![.,;:!?)]))?", re.I
        ),
        _always(0.6),
    ),
    Pattern(
        "EMAIL_ADDRESS",
        "@",
        re.compile(
            # git@ is how every user of a server for code logs in
            rf"(?<![{_MAIL}.+%-])(?!git@)[{_MAIL}](?:[{_MAIL}.%+'-]{{0,62}}[{_MAIL}+-])?"
            r"@(?:[A-Z0-9](?:[A-Z0-9-]{0,61}[A-Z0-9])?\.){1,8}[A-Z]{2,24}(?![\w-])",
            re.I,
        ),
        _always(1.0),
    ),
    Pattern(
        "IBAN_CODE",
        "0",
        re.compile(rf"(?<![A-Z0-9])(?:{_iban_forms()})(?![A-Z0-9])", re.I),
        checked(iban_valid, 1.0),
    ),
    Pattern("CREDIT_CARD", "6", re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){11,24}(?![\w-])"), _check_card),
    Pattern(
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
    Pattern(
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
    Pattern(
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
    Pattern(
        "PHONE_NUMBER",
        "6",
        re.compile(rf"{_ALONE}{_LOOSE_NUMBER}[ -]{{1,2}}(?:office|fax|mobile|cell)\b", re.I),
        _check_cued_phone,
    ),
    Pattern(
        "DATE_TIME",
        "0",
        re.compile(rf"(?<![\w.,/-]){_DATE_FORMS}{_TIME}(?![\w/]|[.,-]\d)", re.I),
        _always(0.6),
    ),
    # Peoples and faiths, where the words around speak of a person.
    Pattern(
        "NRP",
        "",
        re.compile(
            r"\b(?:[Ii] am|[Ii]'m|is|are|was|were|born"
            r"|[Nn]ationality:?|[Cc]itizenship:?|[Rr]eligion:?|[Ee]thnicity:?)"
            rf"(?: an?| of)? (?P<value>{PEOPLES})s?\b(?! [A-Za-z])"
        ),
        _always(0.6),
    ),
    Pattern(
        "NRP",
        "",
        re.compile(
            rf"\b(?P<value>{PEOPLES}) (?:citizens?|nationals?|nationality|passport|m[ae]n|wom[ae]n"
            r"|boys?|girls?|origin|descent|immigrants?|refugees?|community|family|parents)\b"
        ),
        _always(0.6),
    ),
)
