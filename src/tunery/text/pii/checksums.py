"""Checksums and issuing rules: whether a number of the right form can be a card, an account or a person's.

What python-stdnum knows is asked there. Here is what it does not: ranges of payment cards, taxpayer numbers
whose fourth digit is 5 or 6, and Bitcoin addresses of Taproot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any


@cache
def _stdnum(name: str) -> Any:
    return import_module(f"stdnum.{name}")  # on first use: it takes half as long to import as all else here


def known(name: str) -> Callable[[str], bool]:
    """Return a check that a module of python-stdnum makes: checksum, date, and numbers never issued.

    Source:
        https://arthurdejong.org/python-stdnum; each module names the issuer's own rules.

    >>> known("gb.nhs")("9434765919"), known("gb.nhs")("9434765918")
    (True, False)
    """
    return lambda number: bool(_stdnum(name).is_valid(number))


luhn = known("luhn")
"""The check that payment cards carry (ISO/IEC 7812-1, annex B)."""


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
    """Tell whether an IBAN has its country's length and form, and check digits that hold (ISO 13616-1).

    >>> iban_valid("GB82 WEST 1234 5698 7654 32"), iban_valid("GB83 WEST 1234 5698 7654 32")
    (True, False)
    """
    # Banks' own check digits inside are not asked for: surrogates have none.
    return bool(_stdnum("iban").is_valid(text, check_country=False))


def iban_check_digits(code: str) -> str:
    """Return the two check digits of an IBAN, whatever stands in their place.

    >>> iban_check_digits("GB00WEST12345698765432")
    '82'
    """
    return str(_stdnum("iban").calc_check_digits(code))


def itin_issued(area: str, group: str) -> bool:
    """Tell whether a US individual taxpayer number can have been issued.

    Source:
        IRS, Publication 1915: it begins with 9; digits four and five are 50-65, 70-88, 90-92 or 94-99.
    """
    pair = int(group)
    return area[0] == "9" and (50 <= pair <= 65 or 70 <= pair <= 88 or 90 <= pair <= 92 or 94 <= pair <= 99)


_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def segwit_valid(address: str) -> bool:
    """Tell whether a Bitcoin address of the newer form (``bc1...``) holds its checksum.

    >>> segwit_valid("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
    True

    Source:
        BIP 173 (Bech32) and BIP 350 (Bech32m).
    """
    address = address.lower()
    check = 1
    for value in [3, 3, 0, 2, 3, *(_BECH32.index(c) for c in address[3:])]:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> i & 1 else 0
    return check in (1, 0x2BC830A3)
