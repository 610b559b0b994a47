"""Drops prompts and answers outside character bounds."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.example import Drop, Example, without_system


class LengthFilter:
    """Drops prompts and answers outside character bounds."""

    def __init__(self, *, inputs: tuple[int, int | None], outputs: tuple[int, int | None]) -> None:
        """Bounds are (shortest, longest) in characters, both included; None is no bound."""
        self._inputs, self._outputs = inputs, outputs

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Look at the prompt without its system turn, then at the answer."""
        return [self._judge_one(e) for e in examples]

    def _judge_one(self, example: Example) -> Drop | None:
        prompt = sum(len(m.content) for m in without_system(example.prompt))
        return _outside(prompt, self._inputs, "input") or _outside(
            len(example.reference), self._outputs, "output"
        )


def _outside(length: int, bounds: tuple[int, int | None], what: str) -> Drop | None:
    shortest, longest = bounds
    if length == 0 and what == "output":
        return Drop("empty_output", "nothing is left of the answer after cleaning")
    if length == 0:
        return Drop("empty_input", "nothing is left of the prompt after cleaning")
    if length < shortest:
        return Drop(f"{what}_too_short", f"{what} of {length} characters, at least {shortest} asked for")
    if longest is not None and length > longest:
        return Drop(f"{what}_too_long", f"{what} of {length:,} characters, at most {longest:,} allowed")
    return None
