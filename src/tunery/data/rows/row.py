"""What flows through curation before it becomes examples: raw rows, and what can be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tunery.core.example import Drop, Message


class RawRow(NamedTuple):
    """One row as the file has it."""

    number: int
    """1-based, header and blank lines not counted."""
    values: Mapping[str, Any]
    """Column to value; a missing value is None or absent."""
    filled: tuple[str, ...] = ()
    """Keys inside the values that were left out, because a columnar file had put null there, such as
    ``messages.tool_calls.function.arguments.city``."""


NO_VALUE = ...
"""In place of a flaw's value where its fix says all; the same object in every process."""


class Flaw(NamedTuple):
    """Why a row cannot be understood; :func:`tunery.data.rows.flaws.sentence` puts it in words."""

    field: str
    """Where, such as ``messages[2].role``; empty for the row as a whole."""
    value: Any
    """As found, not redacted; None where it is missing, :data:`NO_VALUE` where there is none to show."""
    fix: str
    """What to do about it."""


class BadRow(Exception):  # noqa: N818 - never leaves this package; carries flaws to whoever collects them
    """Raised by a parser for a row it cannot read."""

    def __init__(self, *flaws: Flaw) -> None:
        super().__init__(flaws)
        self.flaws = flaws


class UnusableRow(Exception):  # noqa: N818 - as above
    """Raised by a parser for a row that is well formed but teaches nothing: dropped, with this reason."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.drop = Drop(reason, detail)


def no_prompt(field: str) -> UnusableRow:
    """Return what to raise where the prompt has no value."""
    return UnusableRow("empty_input", f"{field}: no value")


def no_answer(field: str) -> UnusableRow:
    """Return what to raise where the answer has no value."""
    return UnusableRow("empty_output", f"{field}: no value")


class Draft(NamedTuple):
    """A row understood as a conversation, before cleaning gives it its identity."""

    source: str
    """The file, as the recipe wrote it."""
    row: int
    """As :attr:`RawRow.number`."""
    turns: tuple[Message, ...]
    """The conversation; in a preference pair the answer that was not preferred stands behind it."""
    is_pair: bool
    group_keys: tuple[str, ...]
    """Values of the mapped group columns; any one in common ties two rows together."""
    metadata: Mapping[str, Any]
    """Mapped extra columns."""
    sampling_key: bytes | None
    """What a limited number of the source's rows is drawn by; None without a limit."""
    notes: tuple[str, ...] = ()
    """What of the row a person should know once for all rows like it, a sentence each."""
    desirable: bool | None = None
    """Whether people liked the answer; None where nothing says so."""
