"""Adapters as stored: added once, never changed."""

from __future__ import annotations

from tunery.core.training import Adapter
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout(
    "adapters", Adapter, "adapter", ("id", "created_at", "dataset_version"), hint="tunery train ls"
)


def adapters(database: Database) -> Records[Adapter]:
    """Return the table of adapters."""
    return Records(database, _LAYOUT)
