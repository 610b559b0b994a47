"""Counts in PostgreSQL, which any number of gateways share: one transaction for all that waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from tunery.core.prices import NOTHING, Used
from tunery.store.database import Transaction
from tunery.store.limits import LAPSED, Counts, Held
from tunery.traffic.limits.account import Account, Claim, Need, Periods, reserve
from tunery.traffic.limits.ledger import Decision, Reservation, Seed
from tunery.traffic.limits.together import Together

_Ended: TypeAlias = tuple[Reservation, Used]
_SWEEP_S = 1.0
"""Pause between two looks for reservations that lapsed [s]."""
_REMEMBER_S = 3600.0
"""How long it is remembered that a call was settled [s]."""


class _Standing(NamedTuple):
    """What a transaction holds."""

    now: float
    accounts: dict[str, Account]
    known: frozenset[str]
    """Calls that have a reservation, of those that ask for one."""
    held: Mapping[str, Held]
    """Reservations of calls that are to be ended."""


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
        self._together = Together(self._do)

    def reserve(self, reservation: Reservation) -> Decision:
        """Reserve in every account of a call, or in none.

        Calls of this gateway that come while a transaction runs are decided together in the next one, which
        books what ended meanwhile, too: all of it mostly counts in the same accounts, whose rows only one
        transaction at a time can have.
        """
        return cast(Decision, self._together.ask(reservation))

    def settle(self, ended: Sequence[_Ended]) -> None:
        """Book what calls used, each once however often it is ended, and give back the rest."""
        if ended:
            self._together.ask(ended)

    def waits(self, claims: Sequence[Claim]) -> bool:
        """Return whether there is anything to count."""
        return bool(claims)

    def _do(self, asked: Sequence[Reservation | Sequence[_Ended]]) -> Sequence[Decision | None]:
        """Book what ended and let calls in, in one transaction; only those get a decision."""
        calls = [call for call in asked if isinstance(call, Reservation)]
        ended = [one for batch in asked if not isinstance(batch, Reservation) for one in batch]
        decisions = iter(
            self._counts.database.atomically(lambda t: self._count(t, calls, ended), pipelined=True)
        )
        return [next(decisions) if isinstance(one, Reservation) else None for one in asked]

    def _count(
        self,
        transaction: Transaction,
        calls: Sequence[Reservation],
        ended: Sequence[_Ended],
    ) -> list[Decision]:
        """Book what ended, then reserve, in one transaction of two round trips."""
        over = [call for call, _ in ended]
        claims = [claim for call in (*calls, *over) for claim in call.claims]
        ids = [call.id for call in calls], [call.id for call in over]
        locked = self._hold(transaction, claims, known=ids[0], held=ids[1])
        changed = _book(ended, locked)
        decisions: list[Decision] = []
        for call in calls:
            own = [(locked.accounts[claim.account], claim) for claim in call.claims]
            # A call that is known was let in, and the answer to its first try did not arrive.
            found = [] if call.id in locked.known else reserve(own, call.need, locked.now)
            if not found and call.id not in locked.known:
                changed[call.id] = _held(call, locked.now)
            decisions.append(Decision({claim.account: account.copy() for account, claim in own}, found))
        if changed:
            self._counts.put(transaction, _states(locked.accounts), changed)
        return decisions

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
        self,
        transaction: Transaction,
        claims: Sequence[Claim],
        *,
        known: Sequence[str] = (),
        held: Sequence[str] = (),
    ) -> _Standing:
        """Lock accounts, opening those that nobody counted in, and reservations."""
        names = {claim.account for claim in claims}
        locked = self._counts.hold(transaction, names, known=known, held=held)
        if missing := names - locked.states.keys():
            periods = Periods.at(self._now() if self._now is not None else time.time())
            self._counts.open(transaction, {name: self._fresh(name, periods) for name in missing})
            locked = self._counts.hold(transaction, names, known=known, held=held)
        now = self._now() if self._now is not None else locked.now
        accounts = {name: Account.read(text) for name, text in locked.states.items()}
        return _Standing(now, accounts, locked.known, locked.held)

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
            locked = self._hold(transaction, claims, held=[*lapsed])
            over = {id: held for id, held in locked.held.items() if held.is_live and held.ends_at <= now}
            for held in over.values():
                state = json.loads(held.state or "{}")
                _finish(locked.accounts, _claims(held), Need(*state["need"]), NOTHING, (state["at"], now))
            given_back = {id: Held(now + _REMEMBER_S, LAPSED) for id in over}
            self._counts.put(transaction, _states(locked.accounts), given_back)

        self._counts.database.atomically(once, pipelined=True)


def _book(ended: Sequence[_Ended], locked: _Standing) -> dict[str, Held]:
    """Count what calls used, and return what is remembered of them: that they are over."""
    over: dict[str, Held] = {}
    for reservation, used in ended:
        kept = locked.held.get(reservation.id)
        if reservation.id in over or (kept is not None and kept.state is None):
            continue
        over[reservation.id] = Held(locked.now + _REMEMBER_S, None)
        if kept is None or not kept.is_live:
            _finish(locked.accounts, reservation.claims, None, used, (locked.now, locked.now))
        else:
            began = float(json.loads(kept.state or "{}")["at"])
            _finish(locked.accounts, reservation.claims, reservation.need, used, (began, locked.now))
    return over


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
