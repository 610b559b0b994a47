"""When an answer is right."""

import pkgutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluate.scripted import example
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import Example
from tunery.core.judging import ScorerModels
from tunery.evaluate import scorers
from tunery.evaluate.judges.config import JudgeConfig
from tunery.evaluate.scorers import ScorerOptions, make_scorer, scorer_names
from tunery.text.answer import LabelReader, NotJson, fold, read_json, squeeze

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}


def about(reference: str) -> Example:
    return example("q", reference)


OPTIONS = ScorerOptions(
    labels=("card_arrival", "refund"),
    json_schema=SCHEMA,
    pattern="[a-z]+",
    sql_schema="CREATE TABLE t (a INT)",
    judge=JudgeConfig(base_url="http://127.0.0.1:1/v1", model="judge"),
    models=ScorerModels(
        judge=lambda turns: turns[-1].content,
        encoder=lambda texts: np.eye(2)[[0, int(texts[0] != texts[1])]],
    ),  # says again what it is shown
)

NAMES = [name for name in scorer_names() if name != "grader"]
"""Graders have tests of their own: what they take is up to the recipe."""


def test_every_file_in_the_folder_is_a_scorer_and_nothing_else_is() -> None:
    files = {module.name for module in pkgutil.iter_modules(scorers.__path__)}
    assert set(scorer_names()) == files != set()
    for name in NAMES:
        scorer = make_scorer(name, OPTIONS)
        assert 0 <= scorer.score("anything", about('{"total": 1}')) <= 1


@given(prediction=st.text(), reference=st.text())
def test_no_scorer_raises_whatever_a_model_writes(prediction: str, reference: str) -> None:
    for name in NAMES:
        scorer = make_scorer(name, OPTIONS)
        assert 0.0 <= scorer.score(prediction, about(reference)) <= 1.0
        assert isinstance(scorer.correct(prediction, about(reference)), bool)


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "NaN", "\ud800", "\x00"])
def test_no_scorer_raises_on_hostile_text(bomb: str) -> None:
    for name in NAMES:
        make_scorer(name, OPTIONS).score(bomb, about('{"a": 1}'))


@given(st.sampled_from(["refund", '{"total": 1}']))
def test_the_reference_itself_is_right(reference: str) -> None:
    names = (
        ["exact_match", "accuracy"] if reference == "refund" else ["exact_match", "valid_json", "field_match"]
    )
    for name in names:
        assert make_scorer(name, OPTIONS).score(reference, about(reference)) == 1.0
        assert make_scorer(name, OPTIONS).correct(reference, about(reference))


def test_an_unknown_scorer_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'exact_match'"):
        make_scorer("exact_mach")


@pytest.mark.parametrize("name", ["os", "..answer", "__init__", ""])
def test_a_scorers_name_imports_nothing_but_scorers(name: str) -> None:
    with pytest.raises(NotFoundError):
        make_scorer(name)


@pytest.mark.parametrize(
    ("prediction", "reference", "same"),
    [
        ("card arrival", " card  arrival\n", True),
        ("Card arrival", "card arrival", False),
        ("card arrival.", "card arrival", False),
        ("cafe\u0301", "café", True),
        ("", "", True),
    ],
)
def test_exact_match_disregards_spacing_alone(prediction: str, reference: str, same: bool) -> None:
    assert make_scorer("exact_match").score(prediction, about(reference)) == float(same)


@pytest.mark.parametrize("answer", ["refund", "Refund", '"refund"', "REFUND.", " **refund** ", "`refund`"])
def test_accuracy_reads_a_label_through_its_dress(answer: str) -> None:
    assert make_scorer("accuracy", OPTIONS).score(answer, about("refund")) == 1.0


@pytest.mark.parametrize("answer", ["", "refunds", "The label is refund", "refund, card_arrival", "no"])
def test_accuracy_searches_no_sentence_for_a_label(answer: str) -> None:
    assert make_scorer("accuracy", OPTIONS).score(answer, about("refund")) == 0.0


def test_a_reference_outside_the_labels_is_matched_by_nothing() -> None:
    assert not make_scorer("accuracy", OPTIONS).correct("chargeback", about("chargeback"))


def test_labels_that_differ_in_case_alone_are_told_apart() -> None:
    reader = LabelReader(["US", "us"])
    assert (reader.read("US"), reader.read("us"), reader.read("Us")) == ("US", "us", None)


def test_accuracy_without_labels_says_what_to_use() -> None:
    with pytest.raises(ConfigError, match="exact_match"):
        make_scorer("accuracy")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"a": 1}', True),
        (" [1, 2]\n", True),
        ('"text"', True),
        ("", False),
        ("{'a': 1}", False),
        ('```json\n{"a": 1}\n```', False),
        ('{"a": 1} and more', False),
        ('{"a": NaN}', False),
        ("Infinity", False),
    ],
)
def test_valid_json_is_what_a_strict_program_reads(text: str, valid: bool) -> None:
    assert make_scorer("valid_json").score(text, about("anything")) == float(valid)


@pytest.mark.parametrize(
    ("text", "valid"),
    [('{"total": 9.5}', True), ('{"total": "9.5"}', False), ('{"total": 1, "tip": 2}', False)],
)
def test_valid_json_follows_the_schema(text: str, valid: bool) -> None:
    assert make_scorer("valid_json", OPTIONS).score(text, about("{}")) == float(valid)


REFERENCE = '{"company": "TAN WOON YANN", "total": "9.00", "address": null}'


@pytest.mark.parametrize(
    ("answer", "score", "correct"),
    [
        ('{"total": "9.00", "company": "tan  woon yann"}', 1.0, True),
        ('{"total": "9.00", "company": "TAN WOON YANN", "address": "12 Jalan"}', 2 / 3, False),
        ('{"total": 9.00, "company": "TAN WOON YANN"}', 2 / 3, False),
        ('{"total": "9.00", "company": "TAN WOON YANN", "tip": "1"}', 1.0, False),
        ('{"total": "9.00", "company": "TAN WOON YANN", "tip": null}', 1.0, True),
        ("{}", 1 / 3, False),
        ('["9.00"]', 0.0, False),
        ("no json", 0.0, False),
    ],
)
def test_field_match_is_the_share_of_fields(answer: str, score: float, correct: bool) -> None:
    scorer = make_scorer("field_match")
    assert scorer.score(answer, about(REFERENCE)) == pytest.approx(score)
    assert scorer.correct(answer, about(REFERENCE)) is correct


def test_chosen_fields_alone_count() -> None:
    scorer = make_scorer("field_match", ScorerOptions(fields=("total",)))
    assert scorer.score('{"total": "9.00", "note": "x"}', about(REFERENCE)) == 1.0
    assert scorer.correct('{"total": "9.00", "note": "x"}', about(REFERENCE))


@pytest.mark.parametrize(
    ("wanted", "given", "equal"),
    [
        ("9", "9.0", True),
        ("1", "true", False),
        ("0", "false", False),
        ('"1"', "1", False),
        ("[1,2]", "[2,1]", False),
        ('{"b":1,"c":"X"}', '{"c":"x","b":1}', True),
        ("null", "0", False),
        ('"ﬁne"', '"fine"', True),
    ],
)
def test_values_are_equal_when_they_mean_the_same(wanted: str, given: str, equal: bool) -> None:
    found = make_scorer("field_match").score(f'{{"a": {given}}}', about(f'{{"a": {wanted}}}'))
    assert found == float(equal)


def test_an_empty_reference_is_met_by_an_empty_object() -> None:
    assert make_scorer("field_match").score("{}", about("{}")) == 1.0
    assert make_scorer("field_match").score("[]", about("{}")) == 0.0


@given(st.text())
def test_squeezing_and_folding_twice_changes_nothing(text: str) -> None:
    assert squeeze(squeeze(text)) == squeeze(text)
    assert fold(fold(text)) == fold(text)


def test_json_that_cannot_be_read_is_one_kind_of_error() -> None:
    for text in ("", "{", "NaN", "[" * 100_000):
        with pytest.raises(NotJson):
            read_json(text)
