"""The columns of a dataset version, as detectors read them: one list a field, one place a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows side by side; every column has the same length and the same order."""

    ids: Sequence[str]
    """Example ids, unique."""
    prompts: Sequence[str]
    """What stands before the answer: the turns joined by newlines, system turns left out."""
    answers: Sequence[str]
    """The last assistant turn."""
    rejected: Sequence[str | None]
    """The answer that was not preferred, in a preference pair."""
    labels: Sequence[str | None]
    """The class, where answers are a closed set; None throughout otherwise."""
    splits: Sequence[str]
    """train, validation or test."""
    groups: Sequence[str]
    """Rows of one group share a split."""
    sources: Sequence[str]
    """The file each row came from, as the recipe wrote it."""
    rows: Sequence[int]
    """Row number in that file, 1-based."""
    desirable: Sequence[bool | None] | None = None
    """Whether people liked the answer of an unpaired preference; None where no row says so."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def judged(self, i: int) -> bool | None:
        """Return whether people liked a row's answer; None where nobody was asked."""
        return None if self.desirable is None else self.desirable[i]

    def where(self, i: int) -> str:
        """Return where a row came from, for a message."""
        return f"row {self.rows[i]} of {self.sources[i]}"
