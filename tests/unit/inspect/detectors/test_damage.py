"""Damaged texts, and texts that only look so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.inspect.detectors.rows import clean, columns, one
from tunery.inspect.detectors import damage
from tunery.text.markup import strip_html
from tunery.text.normalise import fix_mojibake

MARKED = st.lists(
    st.sampled_from(
        [
            "<b>",
            "</b>",
            "<br/>",
            "&amp;",
            "&lt;",
            "&gt;",
            "lt;",
            "b",
            ">",
            "<",
            "&",
            "â€™",
            "Ã©",
            " ",
            "\n",
            "\u200b",
        ]
    )
).map("".join)


@given(st.text() | MARKED, st.booleans())
def test_repairing_twice_changes_nothing(text: str, html: bool):
    once = damage.repair(text, html=html)

    assert damage.repair(once, html=html) == once


@given(st.text() | MARKED)
def test_stripping_html_twice_changes_nothing(text: str):
    assert strip_html(strip_html(text)) == strip_html(text)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_holds_no_mojibake(text: str):
    assert fix_mojibake(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "naïve café",
        "Ärger über Öl",
        "¿Qué? ¡Sí!",
        "£5 – “fine”",
        "你好",
        "नमस्ते",
        "🏴\U000e0067\U000e007f",
        "👨‍👩‍👧",
    ],
)
def test_right_texts_of_other_scripts_stay(text: str):
    assert damage.repair(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a < b and b > c",
        "x <a and b> c",
        "AT&T",
        "R&D; Sales",
        "?a=1&copy=2&lt=3",
        "List<String>",
        "<name>",
        "<EMAIL_ADDRESS>",
        "1 << 2",
    ],
)
def test_signs_that_make_no_markup_stay(text: str):
    assert strip_html(text) == text


def test_markup_that_the_row_speaks_of_is_left_alone():
    prompts, answers = clean(60)
    prompts[0], answers[0] = "Which HTML tag makes text bold?", "It is <b>bold</b>."
    answers[1] = "Write `<b>` before it."
    prompts[2] = "Clean this up: <p>Hello</p>"

    found = damage.find(columns(prompts, answers))

    assert one(found, "html").rows == ("ex-2",)


def test_markup_that_a_fifth_of_the_answers_hold_is_their_format():
    prompts, answers = clean(60)
    answers = [f"<p>{a}</p>" if i % 4 == 0 else a for i, a in enumerate(answers)]

    assert list(damage.find(columns(prompts, answers))) == []


def test_a_row_with_two_troubles_gets_one_text_from_both():
    found = damage.find(columns(["Itâ€™s <b>late</b>, why?"], ["Because."]))

    values = {one(found, kind).edits[0].value for kind in ("mojibake", "html")}
    assert values == {"It’s late, why?"}


def test_an_edit_of_a_conversation_replaces_its_last_turn_only():
    talk = columns(["Helloâ€¦\nHi\nItâ€™s late"], ["Yes."])

    edit = one(damage.find(talk, inputs=["Itâ€™s late"]), "mojibake").edits[0]

    assert (edit.action, edit.value) == ("set_input", "It’s late")


def test_a_rejected_answer_is_repaired_too():
    pair = columns(["Why?"], ["So."], rejected=["Itâ€™s so."])

    assert one(damage.find(pair), "mojibake").edits[0].action == "set_rejected"


def test_invisible_characters_are_shown_by_their_code_points():
    found = one(damage.find(columns(["pay\u200b now"], ["Yes."])), "invisible_characters")

    assert "<U+200B>" in found.evidence[0].text
