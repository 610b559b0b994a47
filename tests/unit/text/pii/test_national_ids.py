"""Numbers of states and banks: a wrong digit is noticed, and the examples in the docstrings hold."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.pii import checksums
from tunery.text.pii.checksums import iban_check_digits, iban_valid, itin_issued, known, luhn, segwit_valid

# One valid number of each kind; most are the issuers' own examples.
VALID: dict[str, tuple[Callable[[str], bool], str]] = {
    "NHS": (known("gb.nhs"), "9434765919"),
    "DNI": (known("es.dni"), "12345678Z"),
    "PESEL": (known("pl.pesel"), "44051401359"),
    "CPF": (known("br.cpf"), "52998224725"),
    "BSN": (known("nl.bsn"), "111222333"),
    "NIR": (known("fr.nir"), "255081416802538"),
    "AHV": (known("ch.ssn"), "7569217076985"),
    "tax id": (known("de.idnr"), "86095742719"),
    "hetu": (known("fi.hetu"), "131052-308T"),
    "Aadhaar": (known("in_.aadhaar"), "234123412346"),
}


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(checksums)
    assert result.attempted > 3
    assert result.failed == 0


@pytest.mark.parametrize("name", VALID)
@given(data=st.data())
def test_no_single_wrong_digit_passes(name: str, data: st.DataObject) -> None:
    valid, number = VALID[name]
    assert valid(number)
    place = data.draw(st.sampled_from([i for i, c in enumerate(number) if c.isdigit()]))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != number[place]]))
    if name == "AHV":
        place = max(place, 3)  # another country's 756 is no AHV number at all
        digit = next(d for d in "0123456789" if d != number[place])
    assert not valid(number[:place] + digit + number[place + 1 :])


def test_addresses_of_both_kinds_of_segregated_witness_are_known() -> None:
    taproot = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
    assert segwit_valid(taproot)
    assert not segwit_valid(taproot[:-1] + "q")


@pytest.mark.parametrize(
    ("kind", "number"), [("pl.pesel", "72023500520"), ("fi.hetu", "340595-232Y"), ("de.idnr", "20172124945")]
)
def test_a_number_of_an_impossible_date_or_form_is_none_though_its_checksum_holds(
    kind: str, number: str
) -> None:
    assert not known(kind)(number)


@given(st.text("0123456789", min_size=14, max_size=14))
def test_computed_check_digits_make_an_iban(digits: str) -> None:
    code = f"GB00WEST{digits}"
    assert iban_valid("GB" + iban_check_digits(code) + code[4:])


@pytest.mark.parametrize(("group", "issued"), [("70", True), ("50", True), ("66", False), ("93", False)])
def test_taxpayer_numbers_have_their_own_groups(group: str, *, issued: bool) -> None:
    assert itin_issued("912", group) == issued
    assert not itin_issued("812", group)


def test_luhn_holds_for_npi_only_with_its_prefix() -> None:
    assert luhn("808401234567893")
    assert not luhn("1234567893")
