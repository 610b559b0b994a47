"""Normalising keeps what a reader sees; fingerprints fold what only looks different."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.markup import find_html, strip_html
from tunery.text.normalise import fingerprint, normalise

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@given(ANY_TEXT)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


@given(st.text("abc XYZ 019\n\t.,!", max_size=80).filter(lambda t: "\n\n" not in t))
def test_plain_text_only_loses_space_at_ends_of_lines(text: str) -> None:
    assert [line.rstrip() for line in text.strip().split("\n")] == normalise(text).split("\n")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\u00a0b\u3000c", "a b c"),
        ("in\u200bvis\ufeffible\u00ad", "invisible"),
        ("e\u0301", "é"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("def f():\n    return  1", "def f():\n    return  1"),
        ("family: 👨‍👩‍👧", "family: 👨‍👩‍👧"),
        ("ﬁne ½", "ﬁne ½"),
    ],
)
def test_invisible_differences_go_and_meaning_stays(given: str, expected: str) -> None:
    assert normalise(given) == expected


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Where's my card?", "where s  MY card"),
        ("re-activate", "re activate"),
        ("ﬁne", "FINE"),
        ("card_arrival", "card arrival"),
        ("Straße", "STRASSE"),
        ("in room 5, please (5)", "In room 5 please 5!"),
    ],
)
def test_case_punctuation_and_spacing_do_not_tell_texts_apart(a: str, b: str) -> None:
    assert fingerprint(a) == fingerprint(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("-5", "5"),
        ("3.5", "35"),
        ("£5", "€5"),
        ("2 + 2", "2 * 2"),
        ("a < b", "a > b"),
        ("10%", "10"),
        ("C#", "C"),
    ],
)
def test_what_changes_the_meaning_tells_texts_apart(a: str, b: str) -> None:
    assert fingerprint(a) != fingerprint(b)


@pytest.mark.parametrize(("a", "b"), [("Great 👍", "Great 👎"), ("कि", "की"), ("กี่", "กา")])
def test_pictures_and_vowel_signs_tell_texts_apart(a: str, b: str) -> None:
    assert fingerprint(a) != fingerprint(b)


def test_how_a_picture_is_drawn_does_not() -> None:
    assert fingerprint("❤️!") == fingerprint("❤")


@pytest.mark.parametrize("text", ["<" * 300 + "b>" * 300, "&" + "amp;" * 300 + "lt;b>"])
def test_what_nests_deeper_than_any_text_is_stripped_at_once(text: str) -> None:
    bare = strip_html(text)
    assert find_html(bare) is None
    assert strip_html(bare) == bare


def test_a_million_spaces_are_no_trouble() -> None:
    assert normalise("a" + " " * 1_000_000 + "b\n").endswith("b")
