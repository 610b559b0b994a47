"""Evaluations as stored: added once, never changed."""

from __future__ import annotations

from tunery.core.evaluation import Evaluation
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout(
    "evaluations", Evaluation, "evaluation", ("id", "created_at", "subject"), hint="tunery evaluate ls"
)


def evaluations(database: Database) -> Records[Evaluation]:
    """Return the table of evaluations."""
    return Records(database, _LAYOUT)
