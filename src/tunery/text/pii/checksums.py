"""Checksums and issuing rules: whether a number of the right form can be a card, an account or a person's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256


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
    return _iban_remainder(code) == 1


def _iban_remainder(code: str) -> int:
    return int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97


def iban_check_digits(code: str) -> str:
    """Return the two check digits of an IBAN whose third and fourth characters are ``00``.

    >>> iban_check_digits("GB00WEST12345698765432")
    '82'
    """
    return f"{98 - _iban_remainder(code):02d}"


def ssn_issued(area: str, group: str, serial: str) -> bool:
    """Tell whether a US social security number can have been issued.

    Source:
        Social Security Administration, number randomization FAQ: areas 000, 666 and 900-999, group 00 and
        serial 0000 are never assigned.
    """
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=True))


def itin_issued(area: str, group: str) -> bool:
    """Tell whether a US individual taxpayer number can have been issued.

    Source:
        IRS, Publication 1915: it begins with 9; digits four and five are 50-65, 70-88, 90-92 or 94-99.
    """
    pair = int(group)
    return area[0] == "9" and (50 <= pair <= 65 or 70 <= pair <= 88 or 90 <= pair <= 92 or 94 <= pair <= 99)


def nhs_valid(digits: str) -> bool:
    """Tell whether ten digits are a patient number of the British NHS.

    >>> nhs_valid("9434765919"), nhs_valid("9434765918")
    (True, False)

    Source:
        NHS Data Dictionary, NHS NUMBER: modulus 11.
    """
    check = 11 - _weighted(digits[:9], range(10, 1, -1)) % 11
    return len(digits) == 10 and check % 11 == int(digits[9]) and check != 10


_SPANISH = "TRWAGMYFPDXBNJZSQVHLCKE"


def spanish_id_valid(code: str) -> bool:
    """Tell whether a Spanish DNI or NIE ends in its letter: the number modulo 23.

    >>> spanish_id_valid("12345678Z"), spanish_id_valid("X1234567L"), spanish_id_valid("12345678A")
    (True, True, False)

    Source:
        Ministerio del Interior, Cálculo del dígito de control del NIF/NIE.
    """
    code = code.upper()
    digits = str("XYZ".index(code[0])) + code[1:-1] if code[0] in "XYZ" else code[:-1]
    return _SPANISH[int(digits) % 23] == code[-1]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21,
         2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def fiscal_code_valid(code: str) -> bool:
    """Tell whether an Italian fiscal code ends in its check letter.

    >>> fiscal_code_valid("RSSMRA85T10A562S"), fiscal_code_valid("RSSMRA85T10A562T")
    (True, False)

    Source:
        Decreto ministeriale 23 dicembre 1976, article 7.
    """
    code = code.upper()
    odd = sum(_ODD[c] for c in code[:15:2])
    even = sum(int(c) if c.isdigit() else ord(c) - ord("A") for c in code[1:15:2])
    return chr(ord("A") + (odd + even) % 26) == code[15]


def pesel_valid(digits: str) -> bool:
    """Tell whether eleven digits are a Polish PESEL.

    >>> pesel_valid("44051401359"), pesel_valid("44051401358")
    (True, False)

    Source:
        Ustawa o ewidencji ludności, article 15: weights 1 3 7 9, modulo 10.
    """
    return (10 - _weighted(digits[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(digits[10])


def cpf_valid(digits: str) -> bool:
    """Tell whether eleven digits are a Brazilian CPF; eleven equal digits satisfy the sums and are none.

    >>> cpf_valid("52998224725"), cpf_valid("52998224724"), cpf_valid("11111111111")
    (True, False, False)

    Source:
        Receita Federal: two check digits, modulo 11.
    """
    if len(set(digits)) == 1:
        return False
    return all(_weighted(digits[:n], range(n + 1, 1, -1)) * 10 % 11 % 10 == int(digits[n]) for n in (9, 10))


def bsn_valid(digits: str) -> bool:
    """Tell whether nine digits are a Dutch citizen number: the eleven test.

    >>> bsn_valid("111222333"), bsn_valid("111222334")
    (True, False)
    """
    return (
        len(digits) == 9 and digits != "0" * 9 and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0
    )


def nir_valid(code: str) -> bool:
    """Tell whether a French social security number ends in its key: 97 less the number modulo 97.

    >>> nir_valid("255081416802538"), nir_valid("255081416802539")
    (True, False)

    Source:
        INSEE, definition of the NIR; Corsica's 2A counts as 19 and 2B as 18.
    """
    number = code[:13].upper().replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(code[13:])


def ahv_valid(digits: str) -> bool:
    """Tell whether thirteen digits are a Swiss AHV number: 756 and the check digit of an EAN.

    >>> ahv_valid("7569217076985"), ahv_valid("7569217076984")
    (True, False)
    """
    return digits.startswith("756") and _weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0


def tax_id_valid(digits: str) -> bool:
    """Tell whether eleven digits are a German tax number: ISO 7064, mod 11, 10.

    >>> tax_id_valid("86095742719"), tax_id_valid("86095742718")
    (True, False)
    """
    product = 10
    for digit in digits[:10]:
        total = (int(digit) + product) % 10 or 10
        product = 2 * total % 11
    return digits[0] != "0" and (11 - product) % 10 == int(digits[10])


def finnish_id_valid(code: str) -> bool:
    """Tell whether a Finnish personal identity code ends in its check character.

    >>> finnish_id_valid("131052-308T"), finnish_id_valid("131052-308U")
    (True, False)

    Source:
        Digital and Population Data Services Agency: the nine digits modulo 31.
    """
    digits = code[:6] + code[7:10]
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == code[10].upper()


_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def verhoeff(digits: str) -> bool:
    """Tell whether digits satisfy the check of India's Aadhaar numbers.

    >>> verhoeff("2363"), verhoeff("2364")
    (True, False)

    Source:
        Verhoeff (1969), Error detecting decimal codes: products in the dihedral group of the pentagon.
    """
    check = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(place % 8):
            value = _TURN[value]
        turn = check + value if check < 5 else check - value
        check = turn % 5 + 5 * ((check < 5) == (value >= 5))
    return check == 0


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def bitcoin_valid(address: str) -> bool:
    """Tell whether a Bitcoin address of the older form ends in its checksum (Base58Check).

    >>> [bitcoin_valid("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfN" + end) for end in "ab"]
    [True, False]
    """
    number = 0
    for char in address:
        number = number * 58 + _BASE58.index(char)
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    return sha256(sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


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
