"""Groups of rows that say the same, and rows that leak into held-out splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tests.unit.inspect.detectors.rows import clean, columns, one
from tunery.inspect.detectors import duplicates
from tunery.inspect.likeness import compare_prompts

LONG = "I paid for the express delivery of my parcel on Monday and it is still not here, why is that"


def test_exact_and_near_repeats_are_told_apart_and_only_later_rows_go():
    rows = columns(
        ["Where is it?", "where is it", LONG, LONG + "?!", LONG + " so"], ["A", "A", "B", "B", "B"]
    )

    found = list(duplicates.find(rows, compare_prompts(rows, 0.9)))

    exact, near = one(found, "exact_duplicate"), one(found, "near_duplicate")
    assert [e.row for e in exact.edits] == ["ex-1", "ex-3"]
    assert [e.row for e in near.edits] == ["ex-4"]


def test_clean_rows_of_few_templates_are_not_called_repeats():
    rows = columns(*clean())

    assert list(duplicates.find(rows, compare_prompts(rows, 0.9))) == []


def test_a_row_in_two_splits_is_a_leak_and_the_training_row_goes():
    rows = columns(
        ["Where is it?", "where is it", "Why?"], ["A", "A", "B"], splits=["test", "train", "train"]
    )

    finding = one(duplicates.find(rows, compare_prompts(rows, 0.9)), "leak")

    assert finding.severity == "high"
    assert [(e.row, e.action) for e in finding.edits] == [("ex-1", "drop")]


def test_templates_that_differ_in_their_numbers_are_no_repeats():
    rows = columns([f"{LONG} {n}" for n in (5, 7)], ["B", "B"], splits=["train", "test"])

    assert list(duplicates.find(rows, compare_prompts(rows, 0.9))) == []


def by_topic(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Vectors that are equal where texts hold the same topic word."""
    topics = ["refund", "parcel", "invoice"]
    return np.array([[float(t in text) for t in topics] for text in texts], dtype=np.float32)


def test_an_encoder_finds_what_is_the_same_in_other_words():
    rows = columns(
        [
            "Where is my parcel?",
            "The parcel has not come",
            "I want a refund",
            "No invoice came",
            "parcel lost",
        ],
        ["A", "A", "B", "C", "A"],
        splits=["train", "train", "train", "train", "test"],
    )

    found = list(duplicates.find(rows, compare_prompts(rows, 0.9), encoder=by_topic))

    assert one(found, "semantic_duplicate").rows == ("ex-0", "ex-1")
    assert set(one(found, "semantic_leak").rows) == {"ex-0", "ex-1", "ex-4"}


def test_nothing_is_encoded_where_semantic_repeats_are_ignored():
    def encoder(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        raise AssertionError("minutes of work for nothing")

    rows = columns(*clean(20))
    ignore = ("semantic_duplicate", "semantic_leak")

    assert list(duplicates.find(rows, compare_prompts(rows, 0.9), encoder=encoder, ignore=ignore)) == []
