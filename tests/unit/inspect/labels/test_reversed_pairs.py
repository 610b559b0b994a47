"""Preference pairs the wrong way round are found where taste shows."""

from __future__ import annotations

import numpy as np
import pytest

from tunery.inspect.labels import find_reversed_pairs


def pairs(rows: int) -> list[tuple[str, str, str]]:
    """Return pairs whose chosen answers are polite; subjects vary."""
    rng = np.random.default_rng(0)
    subjects = ("card", "pin", "transfer", "rate", "refund", "account", "limit", "fee")
    polite = ("thank you for asking", "we are glad to help", "of course")
    rude = ("stop asking", "that is your problem", "go away")
    return [
        (
            f"What about my {(subject := rng.choice(subjects))}?",
            f"{rng.choice(polite)}, your {subject} is fine in {i} days",
            f"{rng.choice(rude)}, your {subject} is fine in {i} days",
        )
        for i in range(rows)
    ]


def test_pairs_that_changed_places_are_found() -> None:
    given = pairs(150)
    turned = set(np.random.default_rng(1).choice(150, 12, replace=False).tolist())
    given = [(p, r, c) if i in turned else (p, c, r) for i, (p, c, r) in enumerate(given)]
    found = find_reversed_pairs(*(list(column) for column in zip(*given, strict=True)))
    assert {d.row for d in found} == turned
    assert all(d.score >= 0.8 for d in found)


def test_pairs_in_order_are_not_reversed() -> None:
    assert find_reversed_pairs(*(list(column) for column in zip(*pairs(100), strict=True))) == []


def test_answers_without_taste_are_hardly_called_reversed() -> None:
    rng = np.random.default_rng(2)
    words = [f"w{i}" for i in range(50)]
    answers = [" ".join(rng.choice(words, 6)) for _ in range(240)]
    found = find_reversed_pairs(["q"] * 120, answers[:120], answers[120:])
    assert len(found) <= 24


def test_few_or_equal_pairs_and_unequal_lists() -> None:
    assert find_reversed_pairs(["q"] * 5, ["a"] * 5, ["b"] * 5) == []
    assert find_reversed_pairs(["q"] * 30, ["a"] * 30, ["a"] * 30) == []
    with pytest.raises(ValueError, match="2 prompts, 1 chosen and 2 rejected"):
        find_reversed_pairs(["q", "q"], ["a"], ["b", "b"])
