"""Runs: what a recipe's execution has produced so far."""

from __future__ import annotations

import builtins
from typing import Any

from tunery.core.run import Run
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout("runs", Run, "run", ("id", "created_at", "name", "status"), hint="tunery runs ls")


class Runs:
    """The runs of this workspace."""

    def __init__(self, database: Database) -> None:
        self._records = Records(database, _LAYOUT)

    def add(self, run: Run) -> Run:
        """Store a run; where it exists, return it as it is, so that starting again resumes."""
        return self._records.add(run)

    def get(self, id: str) -> Run:
        """Return a run.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self._records.get(id)

    def find(self, id: str) -> Run | None:
        """Return a run, None where there is none."""
        return self._records.find(id)

    def update(self, id: str, **changes: Any) -> Run:
        """Replace fields of a run and return its new state.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self._records.change(id, lambda run: run.with_(**changes))

    def list(self, limit: int = 100) -> builtins.list[Run]:
        """Return the newest runs, newest first."""
        return self._records.list(limit)
