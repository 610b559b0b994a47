"""General ability: ends of everyday descriptions (HellaSwag) and knowledge of 57 subjects (MMLU)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from tunery.core.example import Example
from tunery.evaluate.suites import SuiteDeclaration, example_of, shipped_rows

DECLARATION = SuiteDeclaration(
    "general ability", {"multiple_choice": 0.10}, max_new_tokens=16, by_default=True
)
_ITEMS = 200
"""Of each of the two [count]."""
_LONGEST = 1_300
"""MMLU questions beyond it are left out, so that the suite is quick [characters]."""
_LETTERS = "ABCD"


def examples() -> Iterator[Example]:
    """Yield the items as a user would put them; the likeliest choice is the answer."""
    yield from map(example_of, (*_endings(), *_questions()))


def _endings() -> Iterator[dict[str, Any]]:
    for number, row in enumerate(shipped_rows("hellaswag")):
        if number % 3:  # two of three: the sample is in the order of its sources, which differ in kind
            yield {
                "id": f"hellaswag-{row['id']}",
                "kind": "hellaswag",
                "prompt": f"Continue the text with what is likeliest to happen next.\n\n{row['query']}",
                "reference": row["choices"][row["gold"]],
                "choices": row["choices"],
            }


def _questions() -> Iterator[dict[str, Any]]:
    """Yield the first question of every subject, then the second of every one, and so on."""
    subjects: dict[str, list[dict[str, Any]]] = {}
    for row in shipped_rows("mmlu"):
        text = f"{row['question']}{''.join(row['choices'])}"
        if row["split"] == "test" and len(text) <= _LONGEST:
            subjects.setdefault(row["subject"], []).append(row)
    rounds = max(map(len, subjects.values()))
    in_turn = (rows[turn] for turn in range(rounds) for rows in subjects.values() if turn < len(rows))
    for row in islice(in_turn, _ITEMS):
        offered = "\n".join(
            f"{letter}. {text}" for letter, text in zip(_LETTERS, row["choices"], strict=True)
        )
        question = f"{row['question'].strip()}\n{offered}"
        yield {
            "id": f"mmlu-{row['id'].replace('/', '-')}",
            "kind": "mmlu",
            "prompt": f"{question}\n\nAnswer with the letter of the right answer and nothing else.",
            "reference": _LETTERS[row["answer"]],
            "choices": list(_LETTERS),
        }
