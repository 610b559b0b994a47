"""Nested match: how much of a JSON answer is right, at every depth."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.evaluate.scorers.field_match import normalised
from tunery.text.answer import NotJson, read_json

DECLARATION = Declaration("F1 of nested fields", needs=("json",))


class NestedMatch:
    """F1 over the values of answer and reference, each with its path through the objects.

    Items of a list share a path, so that their order does not count and how often a value occurs does. Values
    are equal as :func:`~tunery.evaluate.scorers.field_match.normalised` has it; ``null`` and what is absent
    are the same, and an empty object or list is a value.
    """

    def score(self, prediction: str, example: Example) -> float:
        """Return F1; 0 for what is no JSON."""
        try:
            given, wanted = _leaves(read_json(prediction)), _leaves(read_json(example.reference))
        except (NotJson, RecursionError):
            return 0.0
        total = given.total() + wanted.total()
        return 2 * (given & wanted).total() / total if total else 1.0

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether every value is there and no other."""
        return self.score(prediction, example) == 1


def _leaves(value: Any) -> Counter[str]:
    """Return how often each path with its value occurs."""
    found: Counter[str] = Counter()
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, one = waiting.pop()
        if isinstance(one, dict) and one:
            waiting += [(f"{path}.{json.dumps(key)}", inner) for key, inner in one.items()]
        elif isinstance(one, list) and one:
            waiting += [(f"{path}[]", inner) for inner in one]
        elif one is not None:
            leaf = normalised(one)
            # 9 and 9.0 are one number
            leaf = float(leaf) if isinstance(leaf, int) and abs(leaf) < 2**53 else leaf
            found[f"{path} = {leaf!r}"] += 1
    return found


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer; it has no options."""
    return NestedMatch()
