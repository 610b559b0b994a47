"""Answers in another style than almost all others."""

from __future__ import annotations

import json

from tests.unit.inspect.detectors.rows import clean, columns, one
from tunery.core.columns import Columns
from tunery.inspect.detectors import style


def objects(count: int) -> list[str]:
    return [json.dumps({"name": f"n{i}", "total": i}) for i in range(count)]


def with_answers(answers: list[str]) -> Columns:
    return columns(clean(len(answers))[0], answers)


def test_prose_around_json_is_cut_away_where_almost_all_answers_are_json():
    answers = objects(50)
    answers[3], answers[4] = f"Here it is: {answers[3]} Anything else?", "I do not know."

    finding = one(style.find(with_answers(answers)), "format_outlier")

    assert finding.rows == ("ex-3", "ex-4")
    assert [(e.row, e.value) for e in finding.edits] == [("ex-3", '{"name": "n3", "total": 3}')]


def test_a_fence_around_json_goes_where_almost_all_have_none():
    answers = objects(50)
    answers[3] = f"```json\n{answers[3]}\n```"

    finding = one(style.find(with_answers(answers)), "fence_outlier")

    assert [(e.row, e.value) for e in finding.edits] == [("ex-3", '{"name": "n3", "total": 3}')]


def test_an_object_without_a_key_is_reported():
    answers = objects(50)
    answers[3] = '{"name": "n3"}'

    assert one(style.find(with_answers(answers)), "key_outlier").evidence[0].detail == "lacks 'total'"


def test_a_small_first_letter_is_repaired_but_not_that_of_a_name_written_so():
    prompts, answers = clean(60)
    answers[1], answers[2] = "you can sign in there.", "iPhones can be returned."

    finding = one(style.find(columns(prompts, answers)), "case_outlier")

    assert [(e.row, e.value) for e in finding.edits] == [("ex-1", "You can sign in there.")]


def test_a_missing_full_stop_is_added_to_a_sentence_only():
    prompts, answers = clean(60)
    answers[1], answers[2] = "You can sign in there", "Berlin"

    finding = one(style.find(columns(prompts, answers)), "punctuation_outlier")

    assert finding.rows == ("ex-1", "ex-2")
    assert [(e.row, e.value) for e in finding.edits] == [("ex-1", "You can sign in there.")]


def test_an_answer_that_was_cut_off_is_not_completed():
    prompts, answers = clean(60)
    answers[1] = "You can sign in there"
    answers[2] = "You can sign in on the account page. Have your order number at hand, for we ask because the"

    finding = one(style.find(columns(prompts, answers)), "punctuation_outlier")

    assert finding.rows == ("ex-1", "ex-2")
    assert [e.row for e in finding.edits] == ["ex-1"]


def test_without_a_clear_majority_no_style_is_odd():
    prompts, answers = clean(60)
    answers = [a.lower() if i % 4 == 0 else a for i, a in enumerate(answers)]

    assert list(style.find(columns(prompts, answers))) == []


def test_json_that_the_prompt_asks_for_is_no_outlier():
    prompts, answers = clean(60)
    prompts[0], answers[0] = "Give me my orders as JSON.", '[{"order": 7}]'

    assert list(style.find(columns(prompts, answers))) == []


def test_classes_have_no_style():
    labels = ["arrival"] * 50 + ["Fee"]

    assert list(style.find(columns([f"Why {i}?" for i in range(51)], labels, labels=labels))) == []
