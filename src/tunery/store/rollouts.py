"""Rollouts: at most one runs for a name, and exactly one caller ends it."""

from __future__ import annotations

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.clock import Clock
from tunery.core.errors import ConflictError
from tunery.core.rollout import Rollout, RolloutStatus
from tunery.core.webhook import EventType
from tunery.store.database import Database, Transaction
from tunery.store.model_names import OWN
from tunery.store.records import Records, TableLayout
from tunery.store.webhooks import Outbox

_LAYOUT = TableLayout(
    "rollouts",
    Rollout,
    "rollout",
    ("name", "status"),
    hint="tunery deploy ls",
    private=True,
    owned=OWN,
)
_PROJECT = "SELECT project FROM model_names WHERE name = :name"
_RUNNING = "WHERE name = :name AND status = 'running'"


class Rollouts(Records[Rollout]):
    """The rollouts of this workspace."""

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._clock = clock
        self._outbox = Outbox(database, clock)

    def add(self, record: Rollout) -> Rollout:
        """Store a rollout.

        Raises:
            ConflictError: Another one runs for the same name.
        """

        def start(transaction: Transaction) -> Rollout:
            for running in self.select(transaction, _RUNNING, {"name": record.name}):
                if running.id != record.id and record.status == "running":
                    raise ConflictError(
                        f"{running.id} already moves traffic of {record.name} "
                        f"({running.traffic_percent:g} % to version {running.challenger})",
                        hint=f"tunery deploy status {record.name}",
                    )
            return self.insert(transaction, record)

        return self.database.atomically(start, lock=f"models/{record.name}")

    def running(self, name: str) -> Rollout | None:
        """Return the rollout that moves traffic of a name now, None where none does."""
        return next(iter(self.list(1, name=name, status="running")), None)

    def finish(self, id: str, status: RolloutStatus, reason: str, actor: str) -> Rollout:
        """End a rollout; whoever comes second gets it as the first has ended it.

        Compare ``status``, ``reason`` and ``actor`` of what is returned to know whether it was you.

        Raises:
            NotFoundError: There is none of that id.
            ValueError: ``running`` is no end.
        """
        if status == "running":
            raise ValueError("a rollout does not end by running")
        ended_at = self._clock.now()

        def end(transaction: Transaction) -> Rollout:
            rollout = self.read(transaction, id)
            if rollout.status != "running":
                return rollout
            type: EventType = "rollout.rolled_back" if status == "rolled_back" else "rollout.ended"
            told = {"model": rollout.name, "status": status, "reason": reason}
            self._outbox.put(transaction, type, _project_of(transaction, rollout), id=id, **told)
            ended = {"status": status, "reason": reason, "actor": actor, "ended_at": ended_at}
            return self.write(transaction, rollout.with_(**ended))

        return self.database.atomically(end, lock=self.lock(id))


def _project_of(transaction: Transaction, rollout: Rollout) -> str:
    named = transaction.rows(_PROJECT, {"name": rollout.name})
    return str(named[0]["project"]) if named else DEFAULT_PROJECT
