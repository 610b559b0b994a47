"""Prompts that are answered in two ways."""

from __future__ import annotations

from tests.unit.inspect.detectors.rows import clean, columns, one
from tunery.core.columns import Columns
from tunery.inspect.detectors import contradictions
from tunery.inspect.likeness import compare_prompts


def found(rows: Columns):
    return list(contradictions.find(rows, compare_prompts(rows, 0.9)))


def classes(pairs: list[tuple[str, str]]) -> Columns:
    prompts, labels = [p for p, _ in pairs], [label for _, label in pairs]
    return columns(prompts, labels, labels=labels)


def test_the_minority_gets_the_majority_s_class():
    rows = classes(
        [("Where is it?", "arrival"), ("where is it", "arrival"), ("Where is it", "lost"), ("Why?", "fee")]
    )

    finding = one(found(rows), "contradiction")

    assert finding.rows == ("ex-0", "ex-1", "ex-2")
    assert [(e.row, e.value) for e in finding.edits] == [("ex-2", "arrival")]


def test_one_against_one_is_for_a_person_to_decide():
    finding = one(found(classes([("Where is it?", "arrival"), ("where is it", "lost")])), "contradiction")

    assert finding.edits == ()
    assert "'arrival' in 1 row" in finding.evidence[0].detail


def test_long_answers_that_differ_may_both_be_right():
    prompts, answers = clean(40)
    rows = columns(
        [prompts[0], *prompts],
        ["It depends on where you bought it and on how you paid for it, so ask.", *answers],
    )

    assert [f.kind for f in found(rows)] == ["several_answers"]


def test_answers_that_differ_in_their_numbers_contradict():
    rows = columns(
        ["How long does a refund to my account take?"] * 2,
        [
            "It takes between 3 and 5 working days from the day on which we got the parcel.",
            "It takes between 7 and 9 working days from the day on which we got the parcel.",
        ],
    )

    assert one(found(rows), "contradiction").rows == ("ex-0", "ex-1")


def test_many_right_answers_to_an_open_request_are_no_contradiction():
    rows = columns(["Provide a synonym for 'strong'."] * 2, ["robust", "powerful"])

    assert [f.kind for f in found(rows)] == ["several_answers"]


NEAR = "I transferred some money to my friend yesterday evening but it has not arrived there"


def test_nearly_equal_prompts_with_different_classes_are_shown_together():
    finding = one(found(classes([(NEAR, "arrival"), (NEAR + " yet", "fee")])), "near_contradiction")

    assert finding.rows == ("ex-0", "ex-1")


def test_a_word_that_turns_the_question_round_makes_another_question():
    assert found(classes([(NEAR, "arrival"), (NEAR.replace(" not ", " "), "fee")])) == []


def test_another_number_makes_another_question():
    assert found(classes([(NEAR + " 5", "arrival"), (NEAR + " 7", "fee")])) == []
