"""Gate results as stored: added once, never changed."""

from __future__ import annotations

from tunery.core.evaluation import GateResult
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout("gates", GateResult, "gate result", ("id", "created_at", "passed"))


def gates(database: Database) -> Records[GateResult]:
    """Return the table of gate results."""
    return Records(database, _LAYOUT)
