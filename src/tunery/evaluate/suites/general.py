"""General ability: ends of everyday descriptions (HellaSwag) and knowledge of 57 subjects (MMLU)."""

from __future__ import annotations

from collections.abc import Iterator

from tunery.core.example import Example
from tunery.evaluate.suites import SuiteDeclaration, example_of, shipped_rows

DECLARATION = SuiteDeclaration(
    "general ability", {"multiple_choice": 0.05}, max_new_tokens=16, in_chat_recipes=True
)
_INSTRUCTIONS = {
    "hellaswag": "Continue the text with what is likeliest to happen next.\n\n{}",
    "mmlu": "{}\n\nAnswer with the letter of the right answer and nothing else.",
}


def examples() -> Iterator[Example]:
    """Yield the items as a user would put them; the likeliest choice is the answer."""
    for row in shipped_rows("general"):
        yield example_of(row | {"prompt": _INSTRUCTIONS[row["kind"]].format(row["prompt"])})
