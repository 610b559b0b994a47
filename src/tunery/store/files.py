"""Files that clients uploaded or jobs produced; their bytes lie among the artifacts of kind ``files``."""

from __future__ import annotations

from typing import Literal

from tunery.core.job import StoredFile
from tunery.store.database import Database
from tunery.store.records import Page, Records, TableLayout

_LAYOUT = TableLayout("files", StoredFile, "file", ("id", "created_at", "purpose"))


class FileRecords:
    """The records of files."""

    def __init__(self, database: Database) -> None:
        self._records = Records(database, _LAYOUT)

    def add(self, file: StoredFile) -> StoredFile:
        """Store a file's record."""
        return self._records.add(file)

    def get(self, id: str) -> StoredFile:
        """Return a file's record.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self._records.get(id)

    def find(self, id: str) -> StoredFile | None:
        """Return a file's record, None where there is none."""
        return self._records.find(id)

    def list(
        self,
        after: str | None = None,
        limit: int = 10_000,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> Page[StoredFile]:
        """Return records of files, newest (``desc``) or oldest (``asc``) first.

        Raises:
            NotFoundError: There is no file ``after``.
        """
        where = {"purpose": purpose} if purpose is not None else None
        return self._records.page(where=where, after=after, limit=limit, oldest_first=order == "asc")

    def delete(self, id: str) -> None:
        """Remove a file's record; remove its artifact after it, so that no record points at nothing.

        Raises:
            NotFoundError: There is none of that id.
        """
        with self._records.database.transaction(lock=self._records.lock(id)) as transaction:
            self._records.read(transaction, id)
            self._records.delete(transaction, id)
