"""Counts in PostgreSQL, which any number of gateways share: one transaction a call, ended calls together."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tunery.core.prices import NOTHING, Used
from tunery.store.database import Transaction
from tunery.store.limits import LAPSED, Counts, Held
from tunery.traffic.limits.account import Account, Claim, Need, Periods, reserve
from tunery.traffic.limits.ledger import Decision, Reservation, Seed

_SWEEP_S = 1.0
"""Pause between two looks for reservations that lapsed [s]."""
_REMEMBER_S = 3600.0
"""How long it is remembered that a call was settled [s]."""


class DatabaseLedger:
    """Accounts as rows that are locked in the order of their names.

    Args:
        counts: The rows; of a database of its own, whose patience is short.
        seed: See :data:`~tunery.traffic.limits.ledger.Seed`.
        now: Clock in place of the database's own [s since 1970].
    """

    shared = True

    def __init__(
        self, counts: Counts, *, seed: Seed | None = None, now: Callable[[], float] | None = None
    ) -> None:
        self._counts = counts
        self._seed = seed
        self._now = now
        self._sweep_at = self._renew_at = 0.0

    def reserve(self, reservation: Reservation) -> Decision:
        """Reserve in every account of a call, or in none."""

        def once(transaction: Transaction) -> Decision:
            now, accounts = self._hold(transaction, reservation.claims)
            pairs = [(accounts[claim.account], claim) for claim in reservation.claims]
            if reservation.id in self._counts.held(transaction, [reservation.id]):
                return Decision(accounts, ())  # the answer to the first try did not arrive
            obstacles = reserve(pairs, reservation.need, now)
            if not obstacles:
                self._save(transaction, accounts)
                self._counts.put(transaction, {reservation.id: _held(reservation, now)})
            return Decision(accounts, obstacles)

        return self._counts.database.atomically(once)

    def settle(self, ended: Sequence[tuple[Reservation, Used]]) -> None:
        """Book what calls used, each once however often it is said, and give back the rest."""

        def once(transaction: Transaction) -> None:
            claims = [claim for reservation, _ in ended for claim in reservation.claims]
            now, accounts = self._hold(transaction, claims)
            held = self._counts.held(transaction, [reservation.id for reservation, _ in ended])
            for reservation, used in ended:
                kept = held.get(reservation.id)
                if kept is None or kept.state == LAPSED:
                    _finish(accounts, reservation.claims, None, used, (now, now))
                elif kept.state is not None:
                    began = float(json.loads(kept.state)["at"])
                    _finish(accounts, reservation.claims, reservation.need, used, (began, now))
            self._save(transaction, accounts)
            self._counts.put(transaction, {r.id: Held(now + _REMEMBER_S, None) for r, _ in ended})

        if ended:
            self._counts.database.atomically(once)

    def upkeep(self, held: Sequence[Reservation]) -> None:
        """Keep reservations for another lease, and give back those that lapsed."""
        moment = time.monotonic()
        if held and moment >= self._renew_at:
            lease_s = held[0].lease_s
            self._counts.renew([r.id for r in held], self._moment() + lease_s)
            self._renew_at = moment + lease_s / 3
        if moment >= self._sweep_at:
            self._sweep()
            self._sweep_at = moment + _SWEEP_S

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Account]:
        """Return how accounts stand now; those that nobody counted in are left out."""
        now = self._moment()
        states = self._counts.read([claim.account for claim in claims])
        found = {name: Account.read(text) for name, text in states.items()}
        for claim in claims:
            if claim.account in found:
                found[claim.account].advance(now, claim.bounds)
        return found

    def close(self) -> None:
        """Close the connections that wait to be used."""
        self._counts.database.close()

    def _moment(self) -> float:
        return self._now() if self._now is not None else self._counts.moment()

    def _hold(self, transaction: Transaction, claims: Sequence[Claim]) -> tuple[float, dict[str, Account]]:
        """Lock accounts, opening those that nobody counted in; return the time and how they stand."""
        names = sorted({claim.account for claim in claims})
        states = self._counts.hold(transaction, names)
        if missing := [name for name in names if name not in states]:
            periods = Periods.at(self._now() if self._now is not None else time.time())
            self._counts.open(transaction, {name: self._fresh(name, periods) for name in missing})
            states = self._counts.hold(transaction, names)
        now = self._now() if self._now is not None else self._counts.moment(transaction)
        return now, {name: Account.read(text) for name, text in states.items()}

    def _fresh(self, name: str, periods: Periods) -> tuple[int, str]:
        account = Account(day=periods.day, month=periods.month)
        if self._seed is not None:
            account.seed(*self._seed(name, periods), periods)
        return periods.month, account.text()

    def _save(self, transaction: Transaction, accounts: Mapping[str, Account]) -> None:
        self._counts.save(transaction, {name: (a.month, a.text()) for name, a in accounts.items()})

    def _sweep(self) -> None:
        """Give back what gateways reserved that are gone, and forget calls that were settled long ago."""
        now = self._moment()
        lapsed = self._counts.lapsed(now)
        if not lapsed:
            self._counts.forget_ended(now)
            return

        def once(transaction: Transaction) -> None:
            claims = [claim for held in lapsed.values() for claim in _claims(held)]
            _, accounts = self._hold(transaction, claims)
            still = self._counts.held(transaction, [*lapsed])
            over = {id: held for id, held in still.items() if held.is_live and held.ends_at <= now}
            for held in over.values():
                told = json.loads(held.state or "{}")
                _finish(accounts, _claims(held), Need(*told["need"]), NOTHING, (told["at"], now))
            self._save(transaction, accounts)
            self._counts.put(transaction, {id: Held(now + _REMEMBER_S, LAPSED) for id in over})

        self._counts.database.atomically(once)


def _held(reservation: Reservation, now: float) -> Held:
    claims = [[claim.account, dict(claim.bounds)] for claim in reservation.claims]
    state = json.dumps({"at": now, "need": reservation.need, "claims": claims})
    return Held(now + reservation.lease_s, state)


def _claims(held: Held) -> list[Claim]:
    told: Mapping[str, Any] = json.loads(held.state or "{}")
    return [Claim(account, bounds) for account, bounds in told["claims"]]


def _finish(
    accounts: Mapping[str, Account],
    claims: Iterable[Claim],
    need: Need | None,
    used: Used,
    times: tuple[float, float],
) -> None:
    began, now = times
    for claim in claims:
        account = accounts[claim.account]
        account.advance(now, claim.bounds)
        account.settle(claim.bounds, need, used, now - began)
