"""Checksums against what they promise: every single-digit error is caught."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.pii.checksums import IBAN_COUNTRIES, iban_valid, is_card, known, luhn

# Examples printed in the SWIFT IBAN registry.
REGISTRY = [
    "AT611904300234573201",
    "BE68539007547034",
    "CH9300762011623852957",
    "DE89370400440532013000",
    "ES9121000418450200051332",
    "FR1420041010050500013M02606",
    "GB29NWBK60161331926819",
    "IT60X0542811101000000123456",
    "MT84MALT011000012345MTLCAST001S",
    "NL91ABNA0417164300",
    "NO9386011117947",
    "PL61109010140000071219812874",
    "SE4550000000058398257466",
]
# Numbers that the card networks publish for testing.
TEST_CARDS = [
    "4111111111111111",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
    "3530111333300000",
    "30569309025904",
]


@given(st.text("0123456789", min_size=2, max_size=20), st.data())
def test_luhn_catches_every_single_digit_error(digits: str, data: st.DataObject) -> None:
    checked = next(digits + d for d in "0123456789" if luhn(digits + d))
    position = data.draw(st.integers(0, len(checked) - 1))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != checked[position]]))
    assert not luhn(checked[:position] + other + checked[position + 1 :])


@pytest.mark.parametrize("number", TEST_CARDS)
def test_published_test_cards_are_cards(number: str) -> None:
    assert is_card(number)


@pytest.mark.parametrize("number", ["4111111111111112", "9556939040116", "4060010002913", "0000000000000000"])
def test_wrong_checksums_and_barcodes_are_no_cards(number: str) -> None:
    assert not is_card(number)


@pytest.mark.parametrize("code", REGISTRY)
def test_registry_examples_are_valid_in_any_writing(code: str) -> None:
    assert iban_valid(code)
    spaced = " ".join(code[i : i + 4] for i in range(0, len(code), 4))
    assert iban_valid(spaced.lower())


@given(st.sampled_from(REGISTRY), st.data())
def test_iban_catches_every_single_digit_error(code: str, data: st.DataObject) -> None:
    position = data.draw(st.sampled_from([i for i, c in enumerate(code) if c.isdigit()]))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != code[position]]))
    assert not iban_valid(code[:position] + other + code[position + 1 :])


def test_an_iban_of_the_wrong_length_or_country_is_refused() -> None:
    assert not iban_valid("GB29NWBK6016133192681")
    assert not iban_valid("ZZ29NWBK60161331926819")
    countries = [c for group in IBAN_COUNTRIES.values() for c in group.split()]
    assert len(countries) == len(set(countries)) > 70


@pytest.mark.parametrize(
    "number", ["000-12-3456", "666-12-3456", "912-12-3456", "123-00-3456", "123-12-0000"]
)
def test_numbers_never_issued_are_no_ssn(number: str) -> None:
    assert not known("us.ssn")(number)
    assert known("us.ssn")("123-12-3456")
