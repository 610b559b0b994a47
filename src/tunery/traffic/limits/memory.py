"""Counts in this process, for one gateway; written behind to its database so that a restart finds them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tunery.core.errors import TuneryError
from tunery.core.prices import Used
from tunery.store.limits import Counts
from tunery.traffic.limits.account import MINUTE, Account, Claim, Periods, reserve
from tunery.traffic.limits.ledger import Decision, Reservation, Seed

_FORGET_S = 60.0
"""Pause between two looks for accounts that nobody counts in [s]."""
_IDLE_S = 2 * MINUTE
"""Nothing is owed any more in an account that nobody counted in for so long [s]."""


class _Held(NamedTuple):
    reservation: Reservation
    at: float


class MemoryLedger:
    """Accounts under one lock.

    Args:
        now: Seconds since 1970.
        kept: Where accounts are kept over restarts; None keeps them nowhere.
        seed: See :data:`~tunery.traffic.limits.ledger.Seed`.
    """

    shared = False

    def __init__(
        self, now: Callable[[], float] = time.time, kept: Counts | None = None, seed: Seed | None = None
    ) -> None:
        self._now = now
        self._kept = kept
        self._seed = seed
        self._guard = threading.Lock()
        self._accounts: dict[str, Account] = {}
        self._held: dict[str, _Held] = {}
        self._changed: set[str] = set()
        self._forget_at = time.monotonic() + _FORGET_S

    def reserve(self, reservation: Reservation) -> Decision:
        """Reserve in every account of a call, or in none."""
        self._open(reservation.claims)
        with self._guard:
            now = self._now()
            accounts = [(self._accounts[claim.account], claim) for claim in reservation.claims]
            obstacles = reserve(accounts, reservation.need, now)
            if not obstacles:
                self._held[reservation.id] = _Held(reservation, now)
            self._note(reservation.claims)
            return Decision({claim.account: account.copy() for account, claim in accounts}, obstacles)

    def waits(self, claims: Sequence[Claim]) -> bool:
        """Return whether one of these accounts is yet to be read."""
        return any(claim.account not in self._accounts for claim in claims)

    def settle(self, ended: Sequence[tuple[Reservation, Used]]) -> None:
        """Book what calls used; a call that another ledger let in is booked, too."""
        for reservation, _ in ended:
            self._open(reservation.claims)
        with self._guard:
            now = self._now()
            for reservation, used in ended:
                held = self._held.pop(reservation.id, None)
                need = reservation.need if held else None
                for claim in reservation.claims:
                    account = self._accounts[claim.account]
                    account.advance(now, claim.bounds)
                    account.settle(claim.bounds, need, used, now - held.at if held else 0.0)
                self._note(reservation.claims)

    def upkeep(self, held: Sequence[Reservation]) -> None:
        """Write what has changed; reservations end with their calls or with this process.

        Raises:
            UnavailableError: It cannot be written now.
        """
        self._flush()
        if time.monotonic() > self._forget_at:
            self._forget_at = time.monotonic() + _FORGET_S
            self._forget()

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Account]:
        """Return how accounts stand now."""
        self._open(claims)
        with self._guard:
            now = self._now()
            for claim in claims:
                self._accounts[claim.account].advance(now, claim.bounds)
            return {claim.account: self._accounts[claim.account].copy() for claim in claims}

    def close(self) -> None:
        """Do nothing: it has no connections of its own."""

    def _note(self, claims: Sequence[Claim]) -> None:
        """Have accounts written that have changed; the lock is held."""
        if self._kept is not None:
            self._changed.update(claim.account for claim in claims)

    def _open(self, claims: Sequence[Claim]) -> None:
        """Have every account at hand; the first time, as it was kept."""
        missing = [claim.account for claim in claims if claim.account not in self._accounts]
        if not missing:
            return
        found = self._kept.read(missing) if self._kept is not None else {}
        periods = Periods.at(self._now())
        opened: dict[str, Account] = {}
        for name in missing:
            if name in found:
                account = opened[name] = Account.read(found[name])
                # What was in flight has ended with the process that answered it.
                account.parallel, account.held_tokens, account.held_usd = 0, 0, 0.0
            else:
                account = opened[name] = Account(at=self._now())
                if self._seed is not None:
                    account.seed(*self._seed(name, periods), periods)
        with self._guard:
            for name, account in opened.items():
                self._accounts.setdefault(name, account)

    def _flush(self) -> None:
        if self._kept is None or not self._changed:
            return
        with self._guard:  # calls wait for this
            changed, self._changed = self._changed, set()
            now = {name: self._accounts[name].copy() for name in changed}
        try:
            self._kept.write({name: (account.month, account.text()) for name, account in now.items()})
        except TuneryError:
            with self._guard:
                self._changed |= changed
            raise

    def _forget(self) -> None:
        """Drop accounts that nobody counts in now, for clients may name users without end."""
        with self._guard:
            idle_since = self._now() - _IDLE_S
            for name in [name for name, account in self._accounts.items() if name not in self._changed]:
                account = self._accounts[name]
                if account.parallel == 0 and account.at < idle_since:
                    del self._accounts[name]
        if self._kept is not None:
            self._kept.forget(Periods.at(self._now()).month)
