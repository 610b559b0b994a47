"""Numbers of states and banks: a wrong digit is noticed, and the examples in the docstrings hold."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.pii import checksums
from tunery.text.pii.checksums import (
    ahv_valid,
    bsn_valid,
    cpf_valid,
    finnish_id_valid,
    iban_check_digits,
    iban_valid,
    itin_issued,
    luhn,
    nhs_valid,
    nir_valid,
    pesel_valid,
    spanish_id_valid,
    tax_id_valid,
    verhoeff,
)

# One valid number of each kind; most are the issuers' own examples.
VALID: dict[str, tuple[Callable[[str], bool], str]] = {
    "NHS": (nhs_valid, "9434765919"),
    "DNI": (spanish_id_valid, "12345678Z"),
    "PESEL": (pesel_valid, "44051401359"),
    "CPF": (cpf_valid, "52998224725"),
    "BSN": (bsn_valid, "111222333"),
    "NIR": (nir_valid, "255081416802538"),
    "AHV": (ahv_valid, "7569217076985"),
    "tax id": (tax_id_valid, "86095742719"),
    "hetu": (finnish_id_valid, "131052-308T"),
    "Aadhaar": (verhoeff, "234123412346"),
}


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(checksums)
    assert result.attempted > 10
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


@given(st.text("0123456789", min_size=2, max_size=18), st.integers(0, 16))
def test_verhoeff_notices_two_neighbours_that_changed_places(body: str, place: int) -> None:
    number = next(body + d for d in "0123456789" if verhoeff(body + d))
    i = place % (len(number) - 1)
    swapped = number[:i] + number[i + 1] + number[i] + number[i + 2 :]
    assert verhoeff(swapped) == (swapped == number)


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
