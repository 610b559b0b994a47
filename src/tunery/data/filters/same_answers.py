"""Drops preference pairs whose two answers are the same."""

from __future__ import annotations

from collections.abc import Sequence

from tunery.core.example import Drop, Example


class SamePairFilter:
    """Drops preference pairs whose two answers are the same: nothing can be learned from them."""

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Compare the answers letter by letter."""
        return [
            Drop("same_answers", "the preferred and the other answer are the same")
            if e.rejected is not None and e.rejected == e.reference
            else None
            for e in examples
        ]
