"""What users said of served answers, and what a reviewer decided about it."""

from __future__ import annotations

from typing import Literal

from tunery.core.clock import Clock
from tunery.core.errors import ConflictError, NotFoundError
from tunery.core.rollout import Feedback
from tunery.store.database import Database, Transaction
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout(
    "feedback",
    Feedback,
    "feedback",
    ("request_id", "kind", "rating", "status", "project"),
    hint="tunery feedback ls",
    private=True,
    owned="project = :project",
)
_SERVED = """
SELECT 1 AS there FROM requests WHERE id = :id AND project = :project AND deleted_at IS NULL
"""


class FeedbackLog(Records[Feedback]):
    """Feedback in the order it came."""

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._clock = clock

    def add(self, record: Feedback) -> Feedback:
        """Store feedback.

        Raises:
            NotFoundError: No request of that id was served.
        """
        with self.database.transaction() as transaction:
            if not self.put(transaction, record):
                raise NotFoundError(
                    f"no request {record.request_id!r:.160} was served, so none can be judged",
                    hint="send the id of the completion, as in chatcmpl-…",
                )
            return self.read(transaction, record.id)

    def put(self, transaction: Transaction, record: Feedback) -> bool:
        """Store feedback, once, as part of a transaction; False where its request is not there or deleted."""
        record = self.own(record)
        if not transaction.rows(_SERVED, {"id": record.request_id, "project": record.project}):
            return False
        self.insert(transaction, record)
        return True

    def review(self, id: str, *, accepted: bool, reviewer: str) -> Feedback:
        """Decide whether feedback may become a row of training data; saying the same again changes nothing.

        Raises:
            NotFoundError: There is none of that id.
            ConflictError: It has been decided otherwise.
        """
        decision: Literal["accepted", "declined"] = "accepted" if accepted else "declined"
        now = self._clock.now()

        def decide(feedback: Feedback) -> Feedback:
            if feedback.status == decision:
                return feedback
            if feedback.status != "pending":
                raise ConflictError(
                    f"feedback {id} was {feedback.status} by {feedback.reviewer}"
                    + (f" at {feedback.reviewed_at:%Y-%m-%d %H:%M} UTC" if feedback.reviewed_at else "")
                )
            return feedback.with_(status=decision, reviewer=reviewer, reviewed_at=now)

        return self.change(id, decide)
