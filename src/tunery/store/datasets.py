"""Dataset versions as stored: added once, never changed."""

from __future__ import annotations

from tunery.core.dataset import DatasetVersion
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout(
    "datasets", DatasetVersion, "dataset version", ("id", "created_at", "name"), hint="tunery data ls"
)


def datasets(database: Database) -> Records[DatasetVersion]:
    """Return the table of dataset versions."""
    return Records(database, _LAYOUT)
