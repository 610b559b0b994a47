"""The port behind which counts lie: in this process, in a database that gateways share, or in Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tunery.core.limits import Usage
from tunery.core.prices import Used
from tunery.traffic.limits.account import Account, Claim, Need, Obstacle, Periods

Seed = Callable[[str, Periods], tuple[Usage, Usage]]
"""Returns what an account that nobody counted yet used in its day and its month, by the records of usage."""


class Decision(NamedTuple):
    """Whether a call was let in."""

    accounts: Mapping[str, Account]
    """How the accounts stand now, its own reservation counted."""
    obstacles: Sequence[tuple[Claim, Obstacle]]
    """What does not let it in; none where it is let in."""


class Reservation(NamedTuple):
    """What a call reserves when it begins."""

    id: str
    claims: tuple[Claim, ...]
    need: Need
    lease_s: float
    """Time after which it is given back unless it was settled or renewed [s]."""


class Ledger(Protocol):
    """Counts of all scopes. Thread-safe; raises :class:`~tunery.core.errors.UnavailableError` while away."""

    shared: bool
    """Whether other processes count in it too, and asking it may take a while."""

    def reserve(self, reservation: Reservation) -> Decision:
        """Reserve in every account of a call, or in none."""
        ...

    def waits(self, claims: Sequence[Claim]) -> bool:
        """Return whether reserving in these accounts may wait for somebody."""
        ...

    def settle(self, ended: Sequence[tuple[Reservation, Used]]) -> None:
        """Book what calls used, each once however often it is ended, and give back the rest."""
        ...

    def upkeep(self, held: Sequence[Reservation]) -> None:
        """Do what is due every second: keep reservations for another lease, and give back what lapsed."""
        ...

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Account]:
        """Return how accounts stand now; those that nobody counted in are left out."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...
