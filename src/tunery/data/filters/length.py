"""Drops prompts and answers outside character bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator

from tunery.core.config import Settings
from tunery.core.example import Drop, Example, without_system
from tunery.data.filters.filters import FilterContext
from tunery.text.normalise import says_nothing


class LengthSettings(Settings):
    """How short and how long prompts and answers may be."""

    min_input_chars: int = Field(default=1, ge=0)
    """Shortest prompt kept, system turn not counted [characters]."""
    max_input_chars: int | None = Field(default=None, ge=1)
    """Longest prompt kept, system turn not counted [characters]."""
    min_output_chars: int = Field(default=1, ge=1)
    """Shortest answer kept [characters]."""
    max_output_chars: int | None = Field(default=None, ge=1)
    """Longest answer kept [characters]."""

    @property
    def pairs(self) -> tuple[tuple[int, int | None], tuple[int, int | None]]:
        """Bounds of prompts and of answers, shortest and longest."""
        return (
            (self.min_input_chars, self.max_input_chars),
            (self.min_output_chars, self.max_output_chars),
        )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for what, (least, most) in zip(("input", "output"), self.pairs, strict=True):
            if most is not None and most < least:
                raise ValueError(f"max_{what}_chars is below min_{what}_chars: every row would be removed")
        return self


class LengthFilter:
    """Drops prompts and answers outside character bounds."""

    settings = LengthSettings
    cost = 0
    reasons: ClassVar = {
        "empty_input": "the prompt is empty",
        "empty_output": "the answer is empty",
        "input_too_short": "the prompt is under the length required",
        "input_too_long": "the prompt is over the length allowed",
        "output_too_short": "the answer is under the length required",
        "output_too_long": "the answer is over the length allowed",
    }

    def __init__(self, bounds: LengthSettings) -> None:
        """Keep what lies within ``bounds``, both ends included."""
        self._bounds = bounds

    @classmethod
    def build(cls, settings: LengthSettings, _: FilterContext) -> Self:
        """Return the filter; with its defaults it drops what cleaning left empty."""
        return cls(settings)

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Look at the prompt without its system turn, then at the answer."""
        return [self._judge_one(e) for e in examples]

    def _judge_one(self, example: Example) -> Drop | None:
        prompt = sum(_characters(m.content) for m in without_system(example.prompt))
        sides = (("input", "prompt", prompt), ("output", "answer", _characters(example.reference)))
        for (what, called, characters), (least, most) in zip(sides, self._bounds.pairs, strict=True):
            if not characters:
                return Drop(f"empty_{what}", f"nothing is left of the {called} after cleaning")
            if characters < least:
                detail = f"{what} of {characters} characters, at least {least} required"
                return Drop(f"{what}_too_short", detail)
            if most is not None and characters > most:
                detail = f"{what} of {characters:,} characters, at most {most:,} allowed"
                return Drop(f"{what}_too_long", detail)
        return None


def _characters(text: str) -> int:
    """Return a text's length, 0 where it holds only what nobody sees [characters]."""
    return 0 if says_nothing(text) else len(text)
