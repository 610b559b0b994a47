"""Rollouts: at most one runs for a name, and exactly one caller ends it."""

from __future__ import annotations

import builtins

from tunery.core.clock import Clock
from tunery.core.errors import ConflictError
from tunery.core.rollout import Rollout, RolloutStatus
from tunery.store.database import Database, Transaction
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout(
    "rollouts", Rollout, "rollout", ("id", "created_at", "name", "status"), hint="tunery deploy status"
)

RUNNING = "WHERE name = :name AND status = 'running'"


class Rollouts:
    """The rollouts of this workspace."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._records = Records(database, _LAYOUT)

    def add(self, rollout: Rollout) -> Rollout:
        """Store a rollout.

        Raises:
            ConflictError: Another one runs for the same name.
        """
        with self._database.transaction(lock=f"models/{rollout.name}") as transaction:
            running = self._running(transaction, rollout.name)
            if running is not None and running.id != rollout.id and rollout.status == "running":
                raise ConflictError(
                    f"{running.id} already moves traffic of {rollout.name} "
                    f"({running.traffic_percent:g} % to version {running.challenger})",
                    hint=f"tunery deploy status {rollout.name}",
                )
            return self._records.insert(transaction, rollout)

    def get(self, id: str) -> Rollout:
        """Return a rollout.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self._records.get(id)

    def find(self, id: str) -> Rollout | None:
        """Return a rollout, None where there is none."""
        return self._records.find(id)

    def running(self, name: str) -> Rollout | None:
        """Return the rollout that moves traffic of a name now, None where none does."""
        found = self._records.page(where={"name": name, "status": "running"}, limit=1).items
        return found[0] if found else None

    def finish(
        self,
        id: str,
        status: RolloutStatus,
        reason: str,
        actor: str,
    ) -> Rollout:
        """End a rollout; whoever comes second gets it as the first has ended it.

        Compare ``status``, ``reason`` and ``actor`` of what is returned to know whether it was you.

        Raises:
            NotFoundError: There is none of that id.
            ValueError: ``running`` is no end.
        """
        if status == "running":
            raise ValueError("a rollout does not end by running")
        ended_at = self._clock.now()

        def end(rollout: Rollout) -> Rollout:
            if rollout.status != "running":
                return rollout
            return rollout.with_(status=status, reason=reason, actor=actor, ended_at=ended_at)

        return self._records.change(id, end)

    def list(self, name: str | None = None, limit: int = 100) -> builtins.list[Rollout]:
        """Return rollouts, of one name or of all, newest first."""
        return self._records.page(where={"name": name} if name is not None else None, limit=limit).items

    def _running(self, transaction: Transaction, name: str) -> Rollout | None:
        found = self._records.select(transaction, RUNNING, {"name": name})
        return found[0] if found else None
