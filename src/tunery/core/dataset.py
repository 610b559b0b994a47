"""A dataset version: an immutable, hashed set of examples with splits and parents."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Literal

from tunery.core.config import Record
from tunery.core.splits import SplitName

Shape = Literal["instruction", "chat", "completion", "preference", "columns"]


class SourceFile(Record):
    """One raw file that went in."""

    path: str
    """As the recipe wrote it."""
    sha256: str
    """Of the bytes."""
    rows: int
    """Rows read [count]."""
    shape: Shape
    """How rows were understood."""


class TextChange(Record):
    """One kind of change that cleaning made, with how many texts it concerned."""

    kind: str
    """In words, such as ``line ends``, ``wrong decoding``, ``markup``, ``personal data``."""
    prompts: int
    """Prompts changed, earlier turns of users and tools and system turns among them [count]."""
    answers: int
    """Answers changed [count]."""
    example: str
    """Id of the first example concerned."""
    source: str
    """File of that example, as the recipe wrote it."""
    row: int
    """Its 1-based row number in that file."""


class DatasetVersion(Record):
    """What ``data`` writes and ``train`` and ``evaluate`` read."""

    id: str
    """``ds-`` and 16 hex digits: hash of the sources' content and the data settings."""
    name: str
    """The recipe's name."""
    content_sha256: str
    """Hash over the ordered examples and their splits; equal on every machine."""
    created_at: datetime
    sources: tuple[SourceFile, ...]
    parents: tuple[str, ...] = ()
    """Dataset versions or feedback exports this one grew from."""
    config: Mapping[str, Any]
    """The data settings that made it."""
    rows_read: int
    rows_kept: int
    dropped: Mapping[str, int]
    """Drop reason to rows [count]."""
    changed: Mapping[str, int] = {}
    """Reason of an edit to texts it replaced [count]; each is listed beside the rows."""
    cleaned: tuple[TextChange, ...] = ()
    """What cleaning changed, in kept and dropped rows alike; versions of before it was counted have none."""
    masked: Mapping[str, int]
    """Type of personal data to spans masked [count]."""
    splits: Mapping[SplitName, int]
    """Split to rows [count]."""
    labels: tuple[str, ...] | None = None
    """The closed label set, sorted; None where outputs are open text."""
    system_prompt: str | None = None
    """System turn of every example, and of every served request that brings none."""
    preference: bool = False
    """True where rows are preference pairs."""
    unpaired: bool = False
    """True where rows say of one answer whether it is desirable: unpaired preferences."""
    warnings: tuple[str, ...] = ()
    """What a person should know: a class with few rows, a split that lacks a class."""

    @property
    def day(self) -> date:
        """Day of its making in UTC, which chat templates that write a day are given with its rows."""
        return self.created_at.astimezone(UTC).date()
