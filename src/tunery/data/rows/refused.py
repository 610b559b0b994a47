"""Rows that were read but cannot be used: they flow with the others, so that one does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from tunery.data.rows.row import BadRow, Flaw, RawRow, UnusableRow
from tunery.text.pii.mask import RAW_CHARS

REFUSED_KEY = "(row)"
_LEADING = 1000
"""So many unusable rows may come before the first that shows how the file is read [count]."""


class Refused(dict[str, Any]):
    """The values of a row that is broken or teaches nothing.

    An iterator that raised for such a row would end there. It yields one of these instead, and
    :func:`tunery.data.conversations.parse.parse_row` raises its error where those of other rows are raised.
    """

    __slots__ = ("error",)

    def __init__(self, error: BadRow | UnusableRow, content: object) -> None:
        text = content if isinstance(content, str) else repr_bounded(content)
        super().__init__({REFUSED_KEY: text[:RAW_CHARS]})
        self.error = error


def repr_bounded(content: object) -> str:
    """Return a value as text for a person, cut; nesting too deep to print says so."""
    try:
        return repr(content)[:RAW_CHARS]
    except RecursionError:
        return "(nested too deeply to show)"


def broken(number: int, fix: str, content: object, *, field: str = REFUSED_KEY) -> RawRow:
    """Return a row that cannot be understood, with what to do about it."""
    text = content[:RAW_CHARS] if isinstance(content, str) else repr_bounded(content)
    return RawRow(number, Refused(BadRow(Flaw(field, text, fix)), text))


def unusable(number: int, reason: str, detail: str, content: object) -> RawRow:
    """Return a row that is well formed but teaches nothing; it is dropped with this reason."""
    return RawRow(number, Refused(UnusableRow(reason, detail), content))


def leading(rows: Iterator[RawRow]) -> list[RawRow]:
    """Return the next rows up to the first that can be used, which shows how all are read."""
    head: list[RawRow] = []
    for row in islice(rows, _LEADING):
        head.append(row)
        if not isinstance(row.values, Refused):
            break
    return head
