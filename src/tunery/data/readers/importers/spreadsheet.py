"""A CSV file that ``tunery data export`` wrote, its cells escaped against formulas; to be named here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunery.data.config import SourceConfig
from tunery.data.rows.row import RawRow
from tunery.store.spreadsheet import unescaped


def recognises(_: Mapping[str, Any]) -> bool:
    """Tell nothing: no row says by itself that its cells were escaped, so the recipe must."""
    return False


def convert(rows: Iterator[RawRow], _: SourceConfig) -> Iterator[RawRow]:
    """Yield rows with their cells as they were before they were escaped."""
    for row in rows:
        if type(row.values) is not dict:  # a row that could not be read stays what it is
            yield row
        else:
            cells = {name: unescaped(v) if isinstance(v, str) else v for name, v in row.values.items()}
            yield RawRow(row.number, cells)
