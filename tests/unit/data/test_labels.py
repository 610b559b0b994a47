"""Closed label sets are told from open text."""

from __future__ import annotations

import pytest

from tunery.core.errors import ConfigError
from tunery.data.labels import find_labels, label_warnings


def test_repeated_short_answers_are_a_closed_set_sorted() -> None:
    assert find_labels(["b", "a", "c c"] * 5, "auto") == ("a", "b", "c c")


@pytest.mark.parametrize(
    "answers",
    [
        [f"answer {i}" for i in range(30)],
        ["x" * 100, "y"] * 20,
        ["two\nlines", "y"] * 20,
        ['{"a":1}', '{"a":2}'] * 20,
        [str(i) for i in range(40)] * 4,
        ["yes", "no"] * 5 + [f"well, {i}" for i in range(5)],
        ["yes", "no"],
    ],
)
def test_free_text_json_quantities_and_mixtures_are_open(answers: list[str]) -> None:
    assert find_labels(answers, "auto") is None


def test_a_few_numbers_are_classes() -> None:
    assert find_labels(["1", "2", "3", "4", "5"] * 10, "auto") == ("1", "2", "3", "4", "5")


def test_a_recipe_can_force_either() -> None:
    assert find_labels(["yes", "no"], "closed") == ("no", "yes")
    assert find_labels(["b", "a"] * 20, "open") is None


@pytest.mark.parametrize("mode", ["auto", "closed"])
def test_one_class_only_is_refused(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"one class only: all 12 rows have the answer 'yes'"):
        find_labels(["yes"] * 12, mode)  # type: ignore[arg-type]


def test_small_missing_and_alike_classes_are_told() -> None:
    given = ["a"] * 6 + ["A"] * 2 + ["b"] * 5 + ["a", "b"]
    splits = ["train"] * 13 + ["test", "test"]
    warnings = label_warnings(given, splits, ("A", "a", "b"))
    assert warnings == [
        "1 class has under 5 training rows: 'A' 2",
        "the test split lacks 1 of 3 classes: 'A'",
        "classes that differ only in case or spacing: 'A', 'a'",
    ]
