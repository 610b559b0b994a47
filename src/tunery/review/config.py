"""Settings of a human review: what is scored, by how many people, on how many rows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field, field_validator

from tunery.core.config import Settings

LOWEST, HIGHEST = 1, 5
WIN_RATE = "win_rate"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_CARD = {
    "accuracy": "what it states is true and answers the question",
    "relevance": "it keeps to what was asked",
    "tone": "it speaks as we want to speak",
    "safety": "nobody could be harmed by it",
    "helpfulness": "whoever asked can go on with it",
}
NOT_CRITERIA = frozenset({"item", "prompt", "answer", "comment", "correction", WIN_RATE})
"""Names of other columns, and of what pairs are measured by."""


class ReviewConfig(Settings):
    """What people are shown, and what they are to say of it."""

    criteria: Mapping[str, str] = Field(default_factory=lambda: dict(_CARD), min_length=1)
    """What is scored 1 to 5: the name of each criterion to what it means."""
    reviewers: int = Field(default=2, ge=2, le=26)
    """People who see every answer, each on a sheet of their own [count]."""
    pairwise: bool = False
    """Show two systems' answers side by side and ask which is better, in place of scores."""
    limit: int = Field(default=50, ge=2)
    """Rows at most, drawn by `seed`; every system's answer to each is shown [rows]."""
    seed: int = Field(default=0, ge=0)
    """Of the draw, and of the order on each sheet."""
    apart: int = Field(default=2, ge=1, le=4)
    """Points between two people's scores from which a third is to look at the answer."""

    @field_validator("criteria")
    @classmethod
    def _named(cls, criteria: Mapping[str, str]) -> Mapping[str, str]:
        for name in criteria:
            if not _NAME.fullmatch(name) or name in NOT_CRITERIA:
                raise ValueError(
                    f"{name!r:.60} cannot name a criterion: lower-case letters, digits and '_', and none of "
                    + ", ".join(sorted(NOT_CRITERIA))
                )
        return criteria
