"""No loose match confuses two labels, and nothing but the label is right for it."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluate.scripted import example
from tunery.evaluate.corpus.macro_f1 import NO_LABEL, no_label
from tunery.evaluate.metrics import declaration_of
from tunery.evaluate.scorers import ScorerOptions, make_scorer, scorer_names
from tunery.text.answer import LabelReader, NotJson, fold, read_json, same_text

NASTY: dict[str, tuple[str, ...]] = {
    "signs": (
        "+",
        "-",
        "*",
        "/",
        "=",
        "<",
        ">",
        "<=",
        "%",
        "_",
        "__",
        "!",
        "?",
        "??",
        ".",
        "..",
        "...",
        ",",
        ";",
    ),
    "quotes": ("'", '"', "`", "``", "**", "*", "“", "”", "‘", "’", "''", '""'),
    "brackets": ("(", ")", "[", "]", "{", "}", "()", "[]", "{}", "(]", "[0]", "(0)"),
    "smileys": (":)", ":(", ":-)", ":-(", ";)", ":", ":D", ":d", "👍", "👎", "👍🏽"),
    "numbers": (
        "1",
        "1.0",
        "10",
        "-1",
        "+1",
        "1%",
        "1,000",
        "1000",
        "1.000",
        "½",
        "1/2",
        "01",
        "1e3",
        "0",
        "-0",
        "²",
        "2",
    ),
    "languages": ("C", "C++", "C#", "c", ".NET", "NET", "F", "F#", "f", "C.", "C!", "C*"),
    "case": ("Us", "us", "US", "uS", "polish", "Polish", "MB", "Mb", "mb", "ß", "ss", "SS", "İ", "i", "ı"),
    "dress": (
        "yes",
        "yes.",
        "yes!",
        '"yes"',
        "`yes`",
        "*yes*",
        "**yes**",
        "- yes",
        "yes:",
        "'yes'",
        "Yes?",
        "“yes”",
    ),
    "spacing": ("a b", "a  b", "ab", "a_b", "a-b", "a\tb", "A B", " a b", "a b ", "a\u00a0b", "  a b"),
    "forms": ("é", "e\u0301", "ﬁ", "fi", "Ａ", "A", "x²", "x2", "x₂", "①", "1", "№", "No"),
    "contained": (
        "positive",
        "negative",
        "not positive",
        "positive, not negative",
        "positive negative",
        "posit",
    ),
    "placeholders": ("(no label)", "((no label))", "None", "none", "null", "N/A", "NaN"),
}
PAIRS = [(name, a, b) for name, labels in NASTY.items() for a, b in itertools.permutations(labels, 2)]
EVERY = tuple(dict.fromkeys(label for labels in NASTY.values() for label in labels))


@pytest.mark.parametrize("name", NASTY)
def test_one_label_is_never_right_for_another(name: str) -> None:
    for labels in (NASTY[name], EVERY):
        options = ScorerOptions(labels=labels, references=labels)
        scorers = [make_scorer(scorer, options) for scorer in ("accuracy", "exact_match")]
        reader = LabelReader(labels)
        for label in NASTY[name]:
            assert reader.read(label) == label
            assert all(scorer.correct(label, example("q", label)) for scorer in scorers)
        for a, b in itertools.permutations(NASTY[name], 2):
            assert not any(scorer.correct(a, example("q", b)) for scorer in scorers), (a, b)
            assert not any(scorer.score(a, example("q", b)) for scorer in scorers), (a, b)


@given(
    st.lists(st.text(st.sampled_from("aAbB+-!.:'\"*` _é²0"), min_size=1, max_size=4), min_size=2, max_size=6)
)
def test_nor_is_it_in_any_set(texts: list[str]) -> None:
    labels = tuple(dict.fromkeys(text for text in texts if text.strip()))
    reader = LabelReader(labels)
    assert [reader.read(label) for label in labels] == [*labels]
    exact = make_scorer("exact_match", ScorerOptions(labels=labels))
    assert not any(exact.correct(a, example("q", b)) for a, b in itertools.permutations(labels, 2))


@pytest.mark.parametrize(("a", "b"), [(a, b) for _, a, b in PAIRS if a.strip() and b.strip()][::7])
def test_a_field_with_one_value_is_not_right_for_another(a: str, b: str) -> None:
    one, other = (json.dumps({"label": text}) for text in (a, b))
    options = ScorerOptions(references=(one, other))
    if " ".join(a.split()) != " ".join(b.split()) and fold(a) != fold(f" {b}"):
        assert not make_scorer("field_match", options).correct(one, example("q", other))
    assert make_scorer("field_match", options).correct(one, example("q", one))


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("5", "-5"),
        ("n", "n!"),
        ("C", "C++"),
        (":", ":("),
        ("50", "50%"),
        ("x2", "x²"),
        ("", "-"),
        ("1/2", "½"),
    ],
)
def test_a_sign_of_the_label_counts_also_where_no_other_label_lacks_it(answer: str, label: str) -> None:
    labels = (label, "something else")
    for name in ("accuracy", "exact_match"):
        scorer = make_scorer(name, ScorerOptions(labels=labels))
        assert not scorer.correct(answer, example("q", label))


def test_an_empty_answer_is_never_right() -> None:
    empty = ["", " ", "\n", "\u200b", "\t\n"]
    models = {"judge", "encoder", "graders"}
    # Where no function is to be called, or no label to be named, saying nothing does so.
    apart = {"tool_call", "multi_label"}
    names = [n for n in scorer_names() if not models & {*declaration_of(n).needs} and n not in apart]
    for label, name in itertools.product(EVERY, names):
        for labels in ((label, "other"), (label,)):
            scorer = make_scorer(name, ScorerOptions(labels=labels, references=labels, pattern="[a-z]+"))
            right = [answer for answer in empty if scorer.correct(answer, example("q", label))]
            assert right == [], (name, label)
    assert [LabelReader(EVERY).read(answer) for answer in empty] == [None] * len(empty)


@pytest.mark.parametrize(
    "answer",
    [
        *[
            "positive, not negative",
            "not negative",
            "positive negative",
            "positive or negative",
            "positive/negative",
        ],
        *[
            "positive\nnegative",
            "negative? positive.",
            "not positive",
            "It is positive",
            "positive (not negative)",
        ],
    ],
)
def test_an_answer_that_holds_more_than_the_label_names_none(answer: str) -> None:
    assert LabelReader(["positive", "negative"]).read(answer) is None


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        *[("A.", "A"), ("**A**", "A"), ('"A"', "A"), ("a", "A"), ("**A**.", "A"), ("A:", "A")],
        *[
            ("c++", "C++"),
            ("`C++`", "C++"),
            ("C++.", "C++"),
            ("-5.", "-5"),
            ("Card-Arrival!", "card_arrival"),
        ],
        *[
            ("- card arrival", "card_arrival"),
            (" card  arrival\n", "card_arrival"),
            ("ＣＡＲＤ arrival", "card_arrival"),
        ],
    ],
)
def test_a_label_is_read_through_the_dress_of_the_answer(answer: str, label: str) -> None:
    assert LabelReader(["A", "B", "C++", "-5", "card_arrival"]).read(answer) == label


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("if x:\n    y()\n", "if x:\n    y()", True),
        ("if x:\n    y()", "if x:\ny()", False),
        ("if x:\n    y()", "if x: y()", False),
        ("    return x", "return x", False),
        (" return x", "return x", True),
        ("a  \n\n\nb", "a\n\n\nb", True),
        ("a\n\nb", "a\nb", False),
        ("a\tb", "a b", True),
    ],
)
def test_the_layout_of_code_counts_and_spacing_that_nobody_sees_does_not(
    one: str, other: str, same: bool
) -> None:
    assert same_text(one, other) is same
    assert make_scorer("exact_match").correct(one, example("q", other)) is same


@given(st.text(max_size=12), st.text(max_size=12))
def test_folding_is_settled_and_same_text_is_fair(a: str, b: str) -> None:
    assert fold(fold(a)) == fold(a)
    assert same_text(a, b) == same_text(b, a)
    assert same_text(a, a)


def test_numbers_strings_and_truth_are_different_things() -> None:
    for a, b in itertools.permutations(
        ["1", '"1"', "true", '"true"', "null", '"null"', "[1]", '"50%"', "50", "-50"], 2
    ):
        one, other = f'{{"x": {a}}}', f'{{"x": {b}}}'
        assert not make_scorer("field_match").correct(one, example("q", other)), (a, b)
    assert make_scorer("field_match").correct('{"b": 1.0, "a": "X"}', example("q", '{"a": "x", "b": 1}'))


def test_a_key_with_two_values_is_not_json_that_programs_agree_on() -> None:
    with pytest.raises(NotJson):
        read_json('{"total": 1, "total": 2}')
    assert read_json('{"total": 1, "total": 1}') == {"total": 1}
    assert not make_scorer("field_match").correct('{"a": 1, "a": 2}', example("q", '{"a": 2}'))


def test_enumerated_values_of_a_schema_are_told_apart_too() -> None:
    schema = {"type": "object", "properties": {"unit": {"enum": ["MB", "Mb"]}}}
    scorer = make_scorer("field_match", ScorerOptions(json_schema=schema))
    assert not scorer.correct('{"unit": "MB"}', example("q", '{"unit": "Mb"}'))
    assert scorer.correct('{"unit": "MB"}', example("q", '{"unit": "MB"}'))


def test_what_stands_for_no_label_is_none_of_them() -> None:
    assert no_label(("a", "b")) == NO_LABEL
    assert no_label(("a", NO_LABEL)) not in ("a", NO_LABEL)
