"""Checksums and issuing rules: whether a number of the right form can be a card, an IBAN or an SSN."""

from __future__ import annotations

import re


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


# Issuer ranges with the lengths their numbers have. Without the lengths one barcode in ten would pass: an EAN
# has 13 digits, and a tenth of all numbers satisfy the Luhn check.
_CARD_RANGES = (
    (re.compile(r"4"), (16, 19)),  # Visa; its 13-digit cards expired long ago, barcodes begin with 4 too
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"3(?:0[0-5]|[689])"), (14, 16, 19)),  # Diners Club
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),  # JCB
    (re.compile(r"6(?:011|4[4-9]|5)"), (16, 19)),  # Discover
    (re.compile(r"62"), (16, 17, 18, 19)),  # UnionPay
    (re.compile(r"5(?:0|[6-9])|6(?:304|759|76[1-3])"), tuple(range(12, 20))),  # Maestro
)


def is_card(number: str) -> bool:
    """Tell whether digits can be a payment card's: a known issuer's range and length, and the Luhn check.

    Source:
        ISO/IEC 7812-1 for the scheme; ranges as the networks publish them.
    """
    lengths = next((lengths for prefix, lengths in _CARD_RANGES if prefix.match(number)), ())
    return len(number) in lengths and luhn(number)


# Length [characters] to the countries that use it, from the SWIFT IBAN registry.
IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}


def iban_valid(text: str) -> bool:
    """Tell whether an IBAN's two check digits hold: rearranged, it is 1 modulo 97 (ISO 13616-1).

    >>> iban_valid("GB82 WEST 1234 5698 7654 32"), iban_valid("GB83 WEST 1234 5698 7654 32")
    (True, False)
    """
    code = re.sub(r"[ -]", "", text).upper()
    if code[:2] not in IBAN_COUNTRIES.get(len(code), "").split():
        return False
    return int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def ssn_issued(area: str, group: str, serial: str) -> bool:
    """Tell whether a US social security number can have been issued.

    Source:
        Social Security Administration, number randomization FAQ: areas 000, 666 and 900-999, group 00 and
        serial 0000 are never assigned.
    """
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"
