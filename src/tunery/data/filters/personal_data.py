"""Drops examples that hold personal data of kinds whose rows are not wanted at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from tunery.core.example import Drop, Example, without_system
from tunery.data.filters.filters import FilterContext
from tunery.text.pii import detect
from tunery.text.pii.types import PiiType


class PersonalDataFilter:
    """Drops examples that hold personal data of kinds whose rows are not wanted at all."""

    settings = None
    cost = 1
    reasons: ClassVar = {"personal_data": "holds personal data of a kind that the recipe keeps out"}

    def __init__(self, types: Sequence[PiiType]) -> None:
        """Look for ``types``."""
        self._types = types

    @classmethod
    def build(cls, _settings: None, context: FilterContext) -> Self | None:
        """Return the filter where ``data.clean.pii_policy`` drops rows for a kind."""
        return cls(context.pii_dropped) if context.pii_dropped else None

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Look at every turn but the system's, and at the answer that was not preferred."""
        texts = [
            [*(m.content for m in without_system(e.messages)), *([e.rejected] if e.rejected else [])]
            for e in examples
        ]
        found = iter(detect([t for row in texts for t in row], self._types))
        drops: list[Drop | None] = []
        for row in texts:
            kinds = sorted({span.type for _ in row for span in next(found)})
            drops.append(Drop("personal_data", f"holds {', '.join(kinds)}") if kinds else None)
        return drops
