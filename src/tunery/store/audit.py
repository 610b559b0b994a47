"""The audit log: records that are added and read, and never changed."""

from __future__ import annotations

from datetime import datetime

from tunery.core.audit import AuditRecord
from tunery.core.clock import Clock
from tunery.core.ids import new_id
from tunery.store.database import Database, Value
from tunery.store.records import Page, Query, Records, TableLayout, utc_text

_LAYOUT = TableLayout(
    "audit",
    AuditRecord,
    "audit record",
    ("action", "project"),
    hint="tunery audit ls",
    private=True,
    owned="project = :project",
)
_TRIM = """
DELETE FROM audit WHERE action = :action AND seq <=
  (SELECT seq FROM audit WHERE action = :action ORDER BY seq DESC LIMIT 1 OFFSET :kept)
"""


class AuditLog(Records[AuditRecord]):
    """The audit records of this workspace."""

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._clock = clock

    def note(self, action: str, **fields: str | int | None) -> AuditRecord:
        """Write a record now.

        Args:
            action: What was done or tried.
            fields: The others of :class:`~tunery.core.audit.AuditRecord`.
        """
        now = self._clock.now()
        values = {"id": new_id("audit", now), "created_at": now, "action": action, **fields}
        return self.add(AuditRecord.model_validate(values))

    def since(
        self, moment: datetime | None = None, *, after: str | None = None, limit: int = 100
    ) -> Page[AuditRecord]:
        """Return a part of the log, newest first.

        Args:
            moment: Nothing older.
            after: Id of the record that the part begins behind.
            limit: Records at most [count].

        Raises:
            NotFoundError: There is no record with the id ``after``.
        """
        conditions, params = list[str](), dict[str, Value]()
        if moment is not None:
            conditions, params = ["created_at >= :since"], {"since": utc_text(moment)}
        return self._page(Query(self._select, conditions, params), after, limit)

    def trim(self, action: str, *, keep: int) -> int:
        """Delete all but the newest records of an action, and return how many went [count]."""
        with self.database.transaction() as transaction:
            return transaction.run(_TRIM, {"action": action, "kept": keep})
