"""Sameness folds what only looks different, and never a mark that means something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.sameness import fingerprint, repeats, words_alone

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
FRAMES = (
    "{}",
    "Compute {}",
    "Great {}",
    "Parse the following expression and say whether it is valid: {}",
    "What is the meaning of {} in this file",
)
MEANINGFUL = [
    ("n!", "n"),
    ("!flag", "flag"),
    (":(", ":)"),
    (":-(", ":-)"),
    ("C++", "C"),
    ("C#", "C"),
    ("C#", "C++"),
    (".NET", "NET"),
    ("-5", "5"),
    ("50%", "50"),
    ("a < b", "a > b"),
    ("a <= b", "a < b"),
    ("$x", "x"),
    ("a[i]", "a(i)"),
    ("a{i}", "a[i]"),
    ("a ≤ b", "a < b"),
    ("½", "1/2"),
    ("½", "12"),
    ("👍", "👎"),
    ("+1", "1"),
    ("+1", "-1"),
    ("a/b", "ab"),
    ("a/b", "a b"),
    ('"a"', "a"),
    ('"a"', "'a'"),
    ("*ptr", "ptr"),
    ("&ptr", "*ptr"),
    ("5'", "5"),
    ("5'", '5"'),
    ("2^3", "23"),
    ("2^3", "2 3"),
    ("~x", "x"),
    ("1.5", "15"),
    ("5 MB", "5 Mb"),
    ("5 mW", "5 MW"),
    ("x²", "x2"),
    ("x₂", "x2"),
    ("(a]", "(a)"),
    ("[a)", "(a)"),
    ("a; b", "a: b"),
    ("x?", "x!"),
    ("a != b", "a = b"),
    ("a == b", "a = b"),
    ("foo_bar", "foo bar"),
    ("@user", "user"),
    ("#tag", "tag"),
    ("1:2", "1 2"),
    ("1,5", "15"),
    ("a->b", "a b"),
    ("a && b", "a & b"),
    ("a || b", "a | b"),
    ("\\n", "n"),
    ("a.b", "a b"),
    ("./x", "x"),
    ("../x", "./x"),
    ("if x:\n  y\nz", "if x:\n  y\n  z"),
    ("`True`", "`true`"),
    ("v = 3", "V = 3"),
    ("10^-3", "10^3"),
    ("1e5", "1e-5"),
    ("5€", "5£"),
    ("§5", "5"),
    ("10°", "10"),
    ("→", "←"),
    ("∀y", "∃y"),
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("a", "b"), MEANINGFUL)
def test_marks_that_mean_something_make_another_prompt(a: str, b: str, frame: str) -> None:
    one, other = frame.format(a), frame.format(b)
    assert fingerprint(one) != fingerprint(other)
    assert not repeats(one, other)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("a", "b"), [("résumé", "resume"), ("\uff21\uff22\uff23", "ABC"), ("MB", "Mb")])
def test_so_do_accents_wide_letters_and_the_case_of_units(a: str, b: str, frame: str) -> None:
    assert fingerprint(frame.format(a)) != fingerprint(frame.format(b))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is X?", "what is X"),
        ("What is the capital of France?", "What is the capital of France"),
        ("WHERE IS MY CARD", "where is my card"),
        ("My card  is lost. ", "my card is lost"),
        ("Don\u2019t panic", "Don't panic"),
        ("ﬁne", "FINE"),
        ("Can I use it", "can i use it"),
        ("Straße", "STRASSE"),
        ("5\u20137 days", "5-7 days"),
        ("\u2764\ufe0f", "\u2764"),
        ("Cafe\u0301", "café"),
        ("one\ntwo", "one two"),
    ],
)
def test_what_a_person_takes_for_the_same_prompt_is(a: str, b: str) -> None:
    assert fingerprint(a) == fingerprint(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Oh no, my card is lost!", "oh no my card is lost"),
        ("Where is the nearest ATM, please?", "where is the nearest atm please"),
        ("I re-activate it (the blue one).", "I re activate it the blue one"),
        ('He said "nothing" to me about it', "He said nothing to me about it"),
    ],
)
def test_rows_that_differ_in_marks_that_help_reading_repeat_each_other(a: str, b: str) -> None:
    assert words_alone(a) == words_alone(b)
    assert repeats(a, b)


def test_numbers_and_signs_tell_texts_apart_that_are_much_alike() -> None:
    assert repeats("My order of 5 items has not come yet", "My order of 5 items has not come still")
    assert not repeats("My order of 5 items has not come yet", "My order of 6 items has not come still")
    assert not repeats("Is the range (a, b] open or closed", "Is the range (a, b) open or closed then")


@given(ANY_TEXT)
def test_what_texts_are_compared_by_is_settled(text: str) -> None:
    assert fingerprint(text) == fingerprint(f"{text}\u200b")
    assert bool(words_alone(text)) == bool(text.split())


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Where's my card?", "where s  MY card"),
        ("re-activate", "re activate"),
        ("ﬁne", "FINE"),
        ("card_arrival", "card arrival"),
        ("Straße", "STRASSE"),
        ("in room 5, please (5)", "In room 5 please 5!"),
        ("❤️!", "❤"),
    ],
)
def test_case_punctuation_and_spacing_do_not_tell_words_apart(a: str, b: str) -> None:
    assert words_alone(a) == words_alone(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        *[("-5", "5"), ("3.5", "35"), ("£5", "€5"), ("2 + 2", "2 * 2"), ("a < b", "a > b"), ("10%", "10")],
        *[("C#", "C"), ("Great 👍", "Great 👎"), ("कि", "की"), ("กี่", "กา"), (":)", ":(")],
    ],
)
def test_signs_pictures_and_vowel_signs_do(a: str, b: str) -> None:
    assert words_alone(a) != words_alone(b)


@pytest.mark.parametrize("piece", ["A", "a! ", "A. ", "\n ", "'", "aB ", "`"])
def test_long_texts_of_one_kind_are_no_trouble(piece: str) -> None:
    text = piece * 100_000
    assert repeats(text, text)
    assert fingerprint(text) == fingerprint(f"{text} ")
