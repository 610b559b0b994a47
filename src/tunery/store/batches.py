"""Batches and the answers to their lines, each kept once however often a server dies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from tunery.core.batch import BATCH_ENDS, Batch, BatchAnswer, BatchStatus, BatchTally
from tunery.core.clock import Clock
from tunery.core.errors import ConflictError
from tunery.core.webhook import EventType
from tunery.store.database import Database, Transaction
from tunery.store.records import Records, TableLayout, document
from tunery.store.webhooks import Outbox

_LAYOUT = TableLayout(
    "batches",
    Batch,
    "batch",
    ("status", "project"),
    hint="tunery batches ls",
    private=True,
    owned="project = :project",
)
_AT_WORK = "WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling') ORDER BY seq LIMIT 1000"
_KEEP = """
INSERT INTO batch_answers (batch_id, line, ok, prompt_tokens, completion_tokens, content)
VALUES (:batch_id, :line, :ok, :prompt_tokens, :completion_tokens, :content)
ON CONFLICT (batch_id, line) DO NOTHING
"""
_NEXT = """
SELECT line, ok, prompt_tokens, completion_tokens, content FROM batch_answers
WHERE batch_id = :id AND line > :line AND ok = :ok ORDER BY line LIMIT 200
"""
_LINES = "SELECT line FROM batch_answers WHERE batch_id = :id"
_TALLY = """
SELECT COUNT(*) FILTER (WHERE ok) AS answered,
       COUNT(*) FILTER (WHERE NOT ok) AS refused,
       COALESCE(SUM(prompt_tokens), 0) AS prompt_tokens,
       COALESCE(SUM(completion_tokens), 0) AS completion_tokens
FROM batch_answers WHERE batch_id = :id
"""
_EVENTS: Mapping[BatchStatus, EventType] = {
    "completed": "batch.completed",
    "failed": "batch.failed",
    "expired": "batch.expired",
    "cancelled": "batch.cancelled",
}
_DROP = "DELETE FROM batch_answers WHERE batch_id = :id"


class Batches(Records[Batch]):
    """The batches of this workspace.

    Who works on one holds its lease; every change of a batch at work is made only while that is so.
    """

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._clock = clock
        self._outbox = Outbox(database, clock)

    def lock(self, id: str) -> str:
        """Return one lock for all: what a claim looks at must not change meanwhile."""
        return "batches"

    def claim(self, worker: str, lease_s: float, is_gone: Callable[[str], bool]) -> Batch | None:
        """Take the oldest batch that nobody works on, and hold it for a while.

        Args:
            worker: Who takes it; a name that nobody had before.
            lease_s: How long it is held without :meth:`hold` [s].
            is_gone: Tells of another worker's name that its process has ended.
        """

        def take(transaction: Transaction) -> Batch | None:
            now = self._clock.now()
            for batch in self.select(transaction, _AT_WORK, {}):
                if batch.worker == worker:
                    return batch  # taken already, and the answer lost on its way here
                held = batch.lease_until is not None and batch.lease_until >= now
                if held and batch.worker is not None and not is_gone(batch.worker):
                    continue
                until = now + timedelta(seconds=lease_s)
                return self.write(transaction, batch.with_(worker=worker, lease_until=until))
            return None

        return self.database.atomically(take, lock=self.lock(""))

    def hold(self, id: str, worker: str, lease_s: float) -> Batch:
        """Hold a batch for longer, and return how it stands now.

        Raises:
            ConflictError: It is no longer this worker's, who must then stop.
        """
        until = self._clock.now() + timedelta(seconds=lease_s)
        return self._held(id, worker, lambda batch: batch.with_(lease_until=until))

    def let_go(self, id: str, worker: str) -> None:
        """Leave a batch to whoever takes it next."""

        def free(transaction: Transaction) -> None:
            batch = self.read(transaction, id)
            if batch.worker == worker:
                self.write(transaction, batch.with_(worker=None, lease_until=None))

        self.database.atomically(free, lock=self.lock(id))

    def advance(self, id: str, worker: str, **changes: Any) -> Batch:
        """Change a batch that a worker holds; one that is being cancelled stays so.

        Raises:
            ConflictError: It is no longer this worker's.
        """

        def change(batch: Batch) -> Batch:
            keep = {"status": batch.status} if batch.status == "cancelling" else {}
            return batch.with_(**{**changes, **keep})

        return self._held(id, worker, change)

    def keep(self, id: str, worker: str, answers: Sequence[BatchAnswer]) -> None:
        """Store answers; of two to one line the first is kept.

        Raises:
            ConflictError: The batch is no longer this worker's.
        """

        def put(transaction: Transaction) -> None:
            self._require(transaction, id, worker)
            for answer in answers:
                values = {**answer._asdict(), "batch_id": id, "content": document(answer.content)}
                transaction.run(_KEEP, values)

        self.database.atomically(put, lock=self.lock(id))

    def lines_answered(self, id: str) -> set[int]:
        """Return the lines of a batch that have an answer."""
        return {int(row["line"]) for row in self.database.rows(_LINES, {"id": id})}

    def answers(self, id: str, *, ok: bool) -> Iterator[BatchAnswer]:
        """Yield a batch's answers in the order of their lines, some hundreds in memory at a time."""
        line = 0
        while rows := self.database.rows(_NEXT, {"id": id, "line": line, "ok": ok}):
            for row in rows:
                content = row["content"]
                read = json.loads(content) if isinstance(content, str) else content
                yield BatchAnswer(**{**row, "ok": bool(row["ok"]), "content": read})
            line = int(rows[-1]["line"])

    def tally(self, batch: Batch) -> BatchTally:
        """Return what a batch's answers add up to."""
        if batch.status in BATCH_ENDS:
            return BatchTally(batch.answered, batch.refused, batch.prompt_tokens, batch.completion_tokens)
        return _tally(self.database, batch.id)

    def end(self, id: str, worker: str, status: BatchStatus, **changes: Any) -> Batch:
        """End a batch; its answers, which lie in files then, are dropped.

        Raises:
            ConflictError: It is no longer this worker's.
        """
        now = self._clock.now()

        def finish(transaction: Transaction) -> Batch:
            batch = self._require(transaction, id, worker)
            tally = _tally(transaction, id)._asdict()
            transaction.run(_DROP, {"id": id})
            self._outbox.put(transaction, _EVENTS[status], batch.project, id=id)
            ended = {**tally, **changes, "status": status, "ended_at": now}
            return self.write(transaction, batch.with_(**ended, worker=None, lease_until=None))

        return self.database.atomically(finish, lock=self.lock(id))

    def cancel(self, id: str) -> Batch:
        """Ask for the end of a batch: what is answered is kept, the rest is not begun.

        Raises:
            NotFoundError: There is no such batch.
            ConflictError: It has ended otherwise.
        """
        now = self._clock.now()

        def ask(batch: Batch) -> Batch:
            if batch.status in ("cancelling", "cancelled"):
                return batch
            if batch.status in BATCH_ENDS or batch.status == "finalizing":
                raise ConflictError(f"batch {id} is {batch.status} and cannot be cancelled")
            return batch.with_(status="cancelling", cancelling_at=now)

        return self.change(id, ask)

    def _held(self, id: str, worker: str, change: Callable[[Batch], Batch]) -> Batch:
        return self.database.atomically(
            lambda transaction: self.write(transaction, change(self._require(transaction, id, worker))),
            lock=self.lock(id),
        )

    def _require(self, transaction: Transaction, id: str, worker: str) -> Batch:
        batch = self.read(transaction, id)
        if batch.worker != worker or batch.status in BATCH_ENDS:
            raise ConflictError(f"batch {id} is no longer held by {worker}")
        return batch


def _tally(source: Database | Transaction, id: str) -> BatchTally:
    row = source.rows(_TALLY, {"id": id})[0]
    return BatchTally(**{name: int(value) for name, value in row.items()})
