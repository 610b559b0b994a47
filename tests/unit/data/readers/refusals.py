"""What readers say of rows that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable

from tunery.data.rows.refused import Refused
from tunery.data.rows.row import BadRow, RawRow


def fixes(rows: Iterable[RawRow]) -> list[tuple[int, str]]:
    """Return number and fix of every row that cannot be understood."""
    return [
        (r.number, r.values.error.flaws[0].fix)
        for r in rows
        if isinstance(r.values, Refused) and isinstance(r.values.error, BadRow)
    ]
