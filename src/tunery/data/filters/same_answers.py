"""Drops preference pairs whose two answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from tunery.core.example import Drop, Example
from tunery.data.filters.filters import FilterContext


class SameAnswersFilter:
    """Drops preference pairs whose two answers are the same: nothing can be learned from them."""

    settings = None
    cost = 0
    reasons: ClassVar = {"same_answers": "both answers of the pair are the same"}

    @classmethod
    def build(cls, _settings: None, _: FilterContext) -> Self:
        """Return the filter; rows without a second answer pass it."""
        return cls()

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Compare the answers letter by letter."""
        return [
            Drop("same_answers", "the preferred and the other answer are the same")
            if e.rejected is not None and e.rejected == e.reference
            else None
            for e in examples
        ]
