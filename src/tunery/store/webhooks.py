"""Events that wait to be sent, and their deliveries: an outbox, so that no kill loses one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tunery.core.access import DEFAULT_PROJECT
from tunery.core.clock import Clock
from tunery.core.errors import ConflictError
from tunery.core.ids import new_id
from tunery.core.webhook import Delivery, Event, EventType
from tunery.store.database import Database, Transaction
from tunery.store.records import Records, TableLayout, utc_text

_EVENTS = TableLayout("webhook_events", Event, "event", ("type",), private=True)
_DELIVERIES = TableLayout(
    "webhook_deliveries",
    Delivery,
    "delivery",
    ("endpoint", "status", "due_at"),
    hint="tunery webhooks ls",
    private=True,
)
_FAN_OUT = 200
"""Events taken out of the outbox at once [count]."""
_DUE = """
WHERE endpoint = :endpoint AND status = 'pending' AND due_at <= :now ORDER BY due_at, seq LIMIT 1
"""
_OVER = """
WHERE endpoint = :endpoint AND status = 'pending'
ORDER BY seq DESC LIMIT 500 OFFSET :most
"""
_ENDED = "DELETE FROM webhook_deliveries WHERE status <> 'pending' AND created_at < :before"
_OLD = "DELETE FROM webhook_events WHERE created_at < :before"


class Wishes(NamedTuple):
    """What one endpoint takes."""

    wants: Callable[[Event], bool]
    """Whether an event is sent to it."""
    most: int
    """Deliveries that may wait for it [count]; the oldest above it are given up."""


class Outbox(Records[Event]):
    """Events that no server has taken yet."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, _EVENTS)
        self._clock = clock

    def put(self, transaction: Transaction, type: EventType, project: str, **data: Any) -> Event:
        """Note within a transaction what it makes happen in a project."""
        return self.insert(transaction, self._event(type, project, data))

    def tell(self, type: EventType, project: str = DEFAULT_PROJECT, **data: Any) -> Event:
        """Note something that happened in a project."""
        return self.add(self._event(type, project, data))

    def _event(self, type: EventType, project: str, data: Mapping[str, Any]) -> Event:
        now = self._clock.now()
        return Event(id=new_id("evt", now), created_at=now, type=type, project=project, data=data)


class Deliveries(Records[Delivery]):
    """Events on their way to endpoints."""

    def __init__(self, database: Database, clock: Clock, outbox: Outbox) -> None:
        super().__init__(database, _DELIVERIES)
        self._clock = clock
        self._outbox = outbox

    def lock(self, id: str) -> str:
        """Return one lock for all: two servers must not take one delivery."""
        return "webhooks"

    def fan_out(self, endpoints: Mapping[str, Wishes]) -> int:
        """Make deliveries of the events in the outbox, and return of how many events [count].

        Args:
            endpoints: Name of each endpoint to what it takes.
        """
        now = self._clock.now()

        def spread(transaction: Transaction) -> int:
            events = self._outbox.select(transaction, f"ORDER BY seq LIMIT {_FAN_OUT}", {})
            for event in events:
                for endpoint, takes in endpoints.items():
                    if takes.wants(event):
                        self.insert(transaction, _delivery(endpoint, event, now))
                self._outbox.erase(transaction, event.id)
            if events:
                self._give_up_over(transaction, endpoints, now)
            return len(events)

        return self.database.atomically(spread, lock=self.lock(""))

    def take(self, endpoint: str, lease_s: float) -> Delivery | None:
        """Take the next delivery that is due to an endpoint, and keep others from it for a while.

        The attempt is counted here: what kills its server is not tried for ever.
        """
        now = self._clock.now()

        def claim(transaction: Transaction) -> Delivery | None:
            of_endpoint = {"endpoint": endpoint, "now": utc_text(now)}
            for due in self.select(transaction, _DUE, of_endpoint):
                until = now + timedelta(seconds=lease_s)
                return self.write(transaction, due.with_(due_at=until, attempts=due.attempts + 1))
            return None

        return self.database.atomically(claim, lock=self.lock(""))

    def resend(self, id: str) -> Delivery:
        """Send a delivery again, from its first attempt on.

        Raises:
            NotFoundError: There is none of that id.
            ConflictError: It is on its way.
        """
        now = self._clock.now()

        def again(delivery: Delivery) -> Delivery:
            if delivery.status == "pending" and delivery.attempts == 0:
                raise ConflictError(f"{id} waits to be sent already", hint=f"tunery webhooks show {id}")
            return delivery.with_(
                status="pending", due_at=now, attempts=0, answer=None, problem=None, ended_at=None
            )

        return self.change(id, again)

    def prune(self, *, ended_for: timedelta, waiting_for: timedelta) -> None:
        """Forget deliveries that ended long ago, and events that no server wants."""
        now = self._clock.now()
        with self.database.transaction() as transaction:
            transaction.run(_ENDED, {"before": utc_text(now - ended_for)})
            transaction.run(_OLD, {"before": utc_text(now - waiting_for)})

    def _give_up_over(self, transaction: Transaction, endpoints: Mapping[str, Wishes], now: datetime) -> None:
        for endpoint, takes in endpoints.items():
            for old in self.select(transaction, _OVER, {"endpoint": endpoint, "most": takes.most}):
                problem = f"over {takes.most:,} deliveries waited for this endpoint"
                self.write(transaction, old.with_(status="dead", problem=problem, ended_at=now))


def _delivery(endpoint: str, event: Event, now: datetime) -> Delivery:
    return Delivery(id=new_id("whd", now), created_at=now, endpoint=endpoint, due_at=now, event=event)
