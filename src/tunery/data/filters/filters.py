"""Checks: filters that look at one example and keep it or drop it with a reason.

A filter is one class with one method. It sees examples in batches, so that one that needs a tokenizer or a
model can work on many at once; what it says about an example must not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tunery.core.engine import Tokenizer
from tunery.core.example import Drop, Example
from tunery.data.config import CleanConfig
from tunery.data.filters.length import LengthFilter
from tunery.data.filters.personal_data import PersonalDataFilter
from tunery.data.filters.same_answers import SamePairFilter
from tunery.data.filters.tokens import TokenFilter


class Filter(Protocol):
    """Keeps examples or drops them."""

    def judge(self, examples: Sequence[Example]) -> list[Drop | None]:
        """Return for each example why it goes, or None to keep it."""
        ...


def filters(clean: CleanConfig, tokenizer: Tokenizer | None, max_tokens: int | None) -> list[Filter]:
    """Return the filters that the settings ask for, cheapest first."""
    chosen: list[Filter] = [
        LengthFilter(
            inputs=(clean.min_input_chars, clean.max_input_chars),
            outputs=(clean.min_output_chars, clean.max_output_chars),
        ),
        SamePairFilter(),
    ]
    if clean.pii_dropped:
        chosen.append(PersonalDataFilter(clean.pii_dropped))
    if tokenizer is not None and max_tokens is not None:
        chosen.append(TokenFilter(tokenizer, max_tokens))
    return chosen
