"""Exports of other programs: recognised by their first row, and taken apart into plain rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from tunery.data.config import SourceConfig
from tunery.data.readers.formats import spreadsheet as sheet
from tunery.data.readers.importers import argilla, label_studio, opentelemetry, request_log
from tunery.data.rows.refused import Refused
from tunery.data.rows.row import RawRow

Convert = Callable[[Iterator[RawRow], SourceConfig], Iterator[RawRow]]
_LOOKED_AT = 1000
"""So many broken rows may come before the first that tells what wrote the file [count]."""


class Kind(NamedTuple):
    """One program's export."""

    recognises: Callable[[Mapping[str, Any]], bool]
    """Tells its rows by keys that no other kind of file has together."""
    convert: Convert
    """Takes its rows apart into rows of a known shape, numbered anew where one becomes several."""


KINDS: dict[str, Kind] = {
    "opentelemetry": Kind(opentelemetry.recognises, opentelemetry.convert),
    "label_studio": Kind(label_studio.recognises, label_studio.convert),
    "argilla": Kind(argilla.recognises, argilla.convert),
    "request_log": Kind(request_log.recognises, request_log.convert),
    "spreadsheet": Kind(sheet.recognises, sheet.convert),
}


def recognise(values: Mapping[str, Any]) -> str | None:
    """Return the name of the export that a row comes from, None where it is a row as any other."""
    return next((name for name, kind in KINDS.items() if kind.recognises(values)), None)


def as_plain_rows(rows: Iterator[RawRow], settings: SourceConfig) -> Iterator[RawRow]:
    """Yield rows as shapes know them, whatever program wrote the file.

    Args:
        rows: As the file has them.
        settings: Whose ``export`` names the program, or ``auto``.
    """
    if settings.export == "none":
        yield from rows
        return
    held: list[RawRow] = []
    name: str | None = None if settings.export == "auto" else settings.export
    if name is None:
        for row in rows:
            held.append(row)
            if not isinstance(row.values, Refused):
                name = recognise(row.values)
                break
            if len(held) == _LOOKED_AT:
                break
    every = chain(held, rows)
    yield from every if name is None else KINDS[name].convert(every, settings)
