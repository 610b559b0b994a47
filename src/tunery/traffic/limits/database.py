"""Counts in PostgreSQL, which any number of gateways share: one transaction a call, ended calls together."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
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
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[tuple[Reservation, Future[Decision]]] = []

    def reserve(self, reservation: Reservation) -> Decision:
        """Reserve in every account of a call, or in none.

        Calls of this gateway that come while a transaction runs are decided together in the next one: they
        mostly count in the same accounts, whose rows only one transaction at a time can have.
        """
        decided: Future[Decision] = Future()
        with self._guard:
            self._waiting.append((reservation, decided))
        with self._turn:
            if not decided.done():
                with self._guard:
                    together, self._waiting = self._waiting, []
                self._decide(together)
        return decided.result()

    def _decide(self, together: Sequence[tuple[Reservation, Future[Decision]]]) -> None:
        try:
            decisions = self._counts.database.atomically(
                lambda transaction: self._reserve_all(transaction, [r for r, _ in together])
            )
        except BaseException as error:
            for _, decided in together:
                decided.set_exception(error)
            return
        for (_, decided), decision in zip(together, decisions, strict=True):
            decided.set_result(decision)

    def _reserve_all(self, transaction: Transaction, calls: Sequence[Reservation]) -> list[Decision]:
        claims = [claim for call in calls for claim in call.claims]
        now, accounts, known = self._hold(transaction, claims, [call.id for call in calls])
        decisions: list[Decision] = []
        held: dict[str, Held] = {}
        for call in calls:
            own = [(accounts[claim.account], claim) for claim in call.claims]
            # A call that is known was let in, and the answer to its first try did not arrive.
            found = [] if call.id in known else reserve(own, call.need, now)
            if not found and call.id not in known:
                held[call.id] = _held(call, now)
            decisions.append(Decision({claim.account: account.copy() for account, claim in own}, found))
        if held:
            self._counts.put(transaction, _states(accounts), held)
        return decisions

    def waits(self, claims: Sequence[Claim]) -> bool:
        """Return whether there is anything to count."""
        return bool(claims)

    def settle(self, ended: Sequence[tuple[Reservation, Used]]) -> None:
        """Book what calls used, each once however often it is ended, and give back the rest."""

        def once(transaction: Transaction) -> None:
            claims = [claim for reservation, _ in ended for claim in reservation.claims]
            now, accounts, _ = self._hold(transaction, claims)
            held = self._counts.held(transaction, [reservation.id for reservation, _ in ended])
            over: set[str] = set()
            for reservation, used in ended:
                kept = held.get(reservation.id)
                if reservation.id in over or (kept is not None and kept.state is None):
                    continue
                over.add(reservation.id)
                if kept is None or not kept.is_live:
                    _finish(accounts, reservation.claims, None, used, (now, now))
                else:
                    began = float(json.loads(kept.state or "{}")["at"])
                    _finish(accounts, reservation.claims, reservation.need, used, (began, now))
            settled = {r.id: Held(now + _REMEMBER_S, None) for r, _ in ended}
            self._counts.put(transaction, _states(accounts), settled)

        if ended:
            with self._turn:
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

    def _hold(
        self, transaction: Transaction, claims: Sequence[Claim], ids: Sequence[str] = ()
    ) -> tuple[float, dict[str, Account], frozenset[str]]:
        """Lock accounts, opening those that nobody counted in.

        Returns:
            The time, how the accounts stand, and which of the calls have a reservation.
        """
        names = {claim.account for claim in claims}
        locked = self._counts.hold(transaction, names, ids)
        if missing := names - locked.states.keys():
            periods = Periods.at(self._now() if self._now is not None else time.time())
            self._counts.open(transaction, {name: self._fresh(name, periods) for name in missing})
            locked = self._counts.hold(transaction, names, ids)
        now = self._now() if self._now is not None else locked.now
        return now, {name: Account.read(text) for name, text in locked.states.items()}, locked.known

    def _fresh(self, name: str, periods: Periods) -> tuple[int, str]:
        account = Account(day=periods.day, month=periods.month)
        if self._seed is not None:
            account.seed(*self._seed(name, periods), periods)
        return periods.month, account.text()

    def _sweep(self) -> None:
        """Give back what gateways reserved that are gone, and forget calls that were settled long ago."""
        now = self._moment()
        lapsed = self._counts.lapsed(now)
        if not lapsed:
            self._counts.forget_ended(now)
            return

        def once(transaction: Transaction) -> None:
            claims = [claim for held in lapsed.values() for claim in _claims(held)]
            _, accounts, _ = self._hold(transaction, claims)
            still = self._counts.held(transaction, [*lapsed])
            over = {id: held for id, held in still.items() if held.is_live and held.ends_at <= now}
            for held in over.values():
                state = json.loads(held.state or "{}")
                _finish(accounts, _claims(held), Need(*state["need"]), NOTHING, (state["at"], now))
            given_back = {id: Held(now + _REMEMBER_S, LAPSED) for id in over}
            self._counts.put(transaction, _states(accounts), given_back)

        self._counts.database.atomically(once)


def _states(accounts: Mapping[str, Account]) -> dict[str, tuple[int, str]]:
    return {name: (account.month, account.text()) for name, account in accounts.items()}


def _held(reservation: Reservation, now: float) -> Held:
    claims = [[claim.account, dict(claim.bounds)] for claim in reservation.claims]
    state = json.dumps({"at": now, "need": reservation.need[:2], "claims": claims})
    return Held(now + reservation.lease_s, state)


def _claims(held: Held) -> list[Claim]:
    state: Mapping[str, Any] = json.loads(held.state or "{}")
    return [Claim(account, bounds) for account, bounds in state["claims"]]


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
