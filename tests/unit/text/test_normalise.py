"""Normalising keeps what a reader or a program would miss, and says what it changed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.text.markup import find_html, strip_html
from tunery.text.normalise import normalise, normalised, says_nothing

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@given(ANY_TEXT)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


PLAIN = st.text("abc XYZ 019\n\t.,!", max_size=80)


@given(PLAIN)
def test_plain_text_loses_no_more_than_space_around_a_line(text: str) -> None:
    assert normalise(text) == (text if "\n" in text.strip() else text.strip())
    assert normalise(text, ends=False) == text


@given(ANY_TEXT, st.booleans())
def test_a_change_is_named_and_nothing_else(text: str, ends: bool) -> None:
    changed, kinds = normalised(text, ends=ends)
    assert bool(kinds) == (changed != text) or (kinds and unicodedata.normalize("NFC", text) != text)


@pytest.mark.parametrize(
    ("given", "expected", "kind"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd", "line ends"),
        ("a\u00a0b\u2009c", "a b c", "unusual spaces"),
        ("in\u200bvis\ufeffible\u00ad", "invisible", "invisible characters"),
        ("e\u0301", "é", "unicode form"),
        (" a \n", "a", "spaces at the ends"),
    ],
)
def test_invisible_differences_go_by_name(given: str, expected: str, kind: str) -> None:
    assert normalised(given) == (expected, (kind,))


KEPT = {
    "blank lines": "a\n\n\n\nb",
    "an indented first line": "    return x\n    y",
    "a hard break of Markdown": "Roses,  \nviolets.",
    "an empty line of a patch's context": " a\n \n-b\n+c\n",
    "spaces inside a line": "def f():\n    return  1",
    "tabs": "a\tb\n\tc",
    "joiners of emoji": "family: 👨‍👩‍👧",
    "joiners of Persian": "می\u200cخواهم",
    "marks of direction": "\u200fשלום\u200e",
    "how a heart is drawn": "❤️",
    "ligatures and fractions": "ﬁne ½ x²",
    "the space of Japanese": "はい\u3000いいえ",
    "colours of a terminal": "\x1b[31mred\x1b[0m",
    "entities and tags": "&amp; <b>",
}


@pytest.mark.parametrize("text", KEPT.values(), ids=KEPT)
def test_what_a_reader_or_a_program_would_miss_stays(text: str) -> None:
    assert normalised(text) == (text, ())


def test_what_shows_nothing_says_nothing() -> None:
    assert all(says_nothing(text) for text in ("", " \n", "\u200b\ufeff ", "\x00"))
    assert not any(says_nothing(text) for text in ("-", "\u200ba", ".", "\u0301"))


@pytest.mark.parametrize("text", ["<" * 300 + "b>" * 300, "&" + "amp;" * 300 + "lt;b>"])
def test_what_nests_deeper_than_any_text_is_stripped_at_once(text: str) -> None:
    bare = strip_html(text)
    assert find_html(bare) is None
    assert strip_html(bare) == bare


def test_a_million_spaces_are_no_trouble() -> None:
    assert normalise("a" + " " * 1_000_000 + "b\n").endswith("b")
