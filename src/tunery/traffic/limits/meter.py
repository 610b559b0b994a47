"""What the gateway asks before a call is answered, and tells after: the one count of what is used."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tunery.core.errors import ResourceError, TuneryError
from tunery.core.figures import counted
from tunery.core.limits import DayUsage, Scope, Usage
from tunery.core.prices import Prices, Used, usd_of_time
from tunery.store.workspace import Workspace
from tunery.traffic.limits.account import Account, Claim, Need
from tunery.traffic.limits.config import LimitSettings
from tunery.traffic.limits.hour import SharedTime
from tunery.traffic.limits.ledger import Decision, Ledger, Reservation
from tunery.traffic.limits.memory import MemoryLedger
from tunery.traffic.limits.refusal import Size, refusal_of
from tunery.traffic.limits.room import headers_of
from tunery.traffic.limits.rules import Rules

_LOG = logging.getLogger(__name__)
_TICK_S = 0.2
"""Pause between two looks at what is to be booked, written or renewed [s]."""
_REFRESH_S = 2.0
"""Time within which a limit that was changed holds [s]."""
_BATCH = 200
"""Calls booked at once at most [count]."""
_WAITING = 100_000
"""Ended calls that may wait to be booked while the counts are away [count]."""
_CLOSE_S = 2.0
"""How long an end waits for what is still to be booked [s]."""
_UNKNOWN_USD = 1e-6
"""Reserved for a call whose price nobody can tell before it ends, so that a used-up budget stops it."""


@dataclass(slots=True)
class Pace:
    """What own hardware costs: its time, and what a token of it cost lately."""

    time: SharedTime = field(default_factory=SharedTime)
    usd_per_token: float = 0.0


class Refusal(NamedTuple):
    """Why a call is not let in."""

    error: TuneryError
    """An OversizeError where it never will be; a QuotaError where a budget is used up; a ThrottledError."""
    headers: Mapping[str, str]
    """How its rate limits stand."""


class Hold:
    """A call's reservation, from its start to its settlement.

    Args:
        meter: What settles it.
        reservation: What is reserved.
        price: What its model costs; None where no price is known.
        headers: How its rate limits stand, as headers.
        counted_here: Whether it was let in by this gateway's own count, because the shared one was away.
    """

    def __init__(
        self,
        meter: Meter,
        reservation: Reservation,
        price: tuple[str, Prices] | None,
        headers: Mapping[str, str],
        *,
        counted_here: bool,
    ) -> None:
        self.reservation = reservation
        self.headers = headers
        self.counted_here = counted_here
        self._meter = meter
        self._price = price
        self._pace = meter.pace(price) if price and price[1].price_per_hour else None
        self._entered = self._pace.time.enter() if self._pace else 0.0
        self._used: Used | None = None

    def settle(self, prompt_tokens: int, completion_tokens: int) -> Used:
        """Book what the call used and give back the rest; the second time, return what was booked."""
        if self._used is None:
            usd = self._price[1].usd(prompt_tokens, completion_tokens) if self._price else 0.0
            if self._pace is not None and self._price is not None:
                spent = usd_of_time(self._pace.time.leave(self._entered), self._price[1].price_per_hour)
                usd += spent
                if tokens := prompt_tokens + completion_tokens:
                    lately = self._pace.usd_per_token
                    self._pace.usd_per_token = (
                        spent / tokens if not lately else (lately * 7 + spent / tokens) / 8
                    )
            self._used = Used(prompt_tokens, completion_tokens, usd)
            self._meter.settled(self, self._used)
        return self._used


class Meter:
    """Lets calls in and books them, by the rules of records and settings.

    Args:
        workspace: Has the rules.
        settings: What holds besides.
        ledger: Where counts lie; in this process alone where None.
    """

    def __init__(
        self, workspace: Workspace, settings: LimitSettings | None = None, ledger: Ledger | None = None
    ) -> None:
        self.settings = settings or LimitSettings()
        self.ledger: Ledger = ledger or MemoryLedger(self._now)
        self.refused: Counter[str] = Counter()
        """Calls that were not let in, by the limit that refused them [count]."""
        self.problem: str | None = None
        """Why the counts cannot be reached; None while they can."""
        self._workspace = workspace
        self._here = MemoryLedger(self._now)
        self._mark, self._attempts = secrets.token_hex(4), itertools.count()
        self._rules: Rules | None = None
        self._stamp: tuple[tuple[str, str], ...] = ()
        self._paces: dict[str, Pace] = {}
        self._guard = threading.Lock()
        self._live: dict[str, Hold] = {}
        self._ended: deque[tuple[Reservation, Used]] = deque()
        self._dropped = 0
        self._unrecorded: deque[DayUsage] = deque()
        self._over = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="limits", daemon=True)

    def start(self) -> None:
        """Keep rules fresh, book what ended and renew what runs, until :meth:`close`."""
        self.refresh()
        self._thread.start()

    def close(self) -> None:
        """Book what is left and end."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _CLOSE_S)
        until = time.monotonic() + _CLOSE_S
        while not self._keep_up() and time.monotonic() < until:
            time.sleep(_TICK_S)
        self.ledger.close()
        if lost := len(self._ended) + self._dropped:
            _LOG.error("%s not booked in limits: %s", counted(lost, "call"), self.problem)

    @property
    def rules(self) -> Rules:
        """What bounds whom; read from the records when first needed."""
        if self._rules is None:
            self.refresh()
        return self._rules or Rules(self.settings)

    def refresh(self) -> None:
        """Read the records of limits again.

        Raises:
            UnavailableError: The database does not answer; the rules stay as they are.
        """
        stamp = self._workspace.limits.stamp()
        if self._rules is None or stamp != self._stamp:
            self._rules = Rules(self.settings, self._workspace.limits.every())
            self._stamp = stamp

    def pace(self, price: tuple[str, Prices]) -> Pace:
        """Return what is known of the hardware that a price is of."""
        with self._guard:
            return self._paces.setdefault(price[0], Pace())

    def admit(self, id: str, caller: Scope, size: Size, *, spare: float = 0.0) -> Hold | Refusal:
        """Reserve what a call may use at most, or say why not and when.

        Args:
            id: Of the call; several attempts at it are several reservations.
            caller: Who calls, and the model that is to answer.
            size: What the call may take.
            spare: See :class:`~tunery.traffic.limits.account.Need`.

        Raises:
            ResourceError: The counts cannot be reached, and the settings say to refuse.
        """
        price = self.settings.priced(caller.model or "")
        claims = self.rules.claims(caller)
        # One of its own for each attempt: a call that failed is tried again under its id.
        unique = f"{id}.{self._mark}{next(self._attempts)}"
        need = Need(size.tokens, self._usd(price, size), spare)
        reservation = Reservation(unique, claims, need, self.settings.lease_s)
        decision, here = self._reserve(reservation)
        if decision.obstacles:
            self.refused.update({obstacle.limit for _, obstacle in decision.obstacles})
            return Refusal(refusal_of(decision.obstacles, size), headers_of(claims, decision.accounts))
        hold = Hold(self, reservation, price, headers_of(claims, decision.accounts), counted_here=here)
        if claims and self.ledger.shared:
            with self._guard:
                self._live[unique] = hold
        return hold

    def waits(self, caller: Scope) -> bool:
        """Return whether letting a call of theirs in may wait for the counts."""
        return self._rules is None or self.ledger.waits(self._rules.claims(caller))

    def settled(self, hold: Hold, used: Used) -> None:
        """Book a call; at once where that takes no time."""
        if not hold.reservation.claims:
            return
        ended = (hold.reservation, used)
        if hold.counted_here:
            self._here.settle([ended])
        elif not self.ledger.shared:
            try:
                self.ledger.settle([ended])
            except TuneryError as error:  # its account is read again, and the database is away
                self._away(error)
            else:
                return
        with self._guard:
            self._live.pop(hold.reservation.id, None)
            if len(self._ended) < _WAITING:
                self._ended.append(ended)
            else:
                self._dropped += 1
        self._wake.set()  # others wait for what it gives back

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Account]:
        """Return how accounts stand, by the count that lets calls in now."""
        ledger = self._here if self.problem is not None and self.ledger.shared else self.ledger
        return ledger.look(claims)

    def use(self, caller: Scope, used: Used) -> None:
        """Add to usage what a call used that leaves no record; that of others comes with their records."""
        day = self._workspace.clock.now().date()
        usage = Usage(1, used.prompt_tokens, used.completion_tokens, used.usd)
        self._unrecorded.append(
            DayUsage(day, caller.project or "", caller.key or "", caller.model or "", usage)
        )

    def _usd(self, price: tuple[str, Prices] | None, size: Size) -> float:
        if price is None:
            return 0.0
        usd = price[1].usd(size.prompt_tokens, size.answer_tokens)
        if price[1].price_per_hour:
            usd += max(_UNKNOWN_USD, size.tokens * self.pace(price).usd_per_token)
        return usd

    def _reserve(self, reservation: Reservation) -> tuple[Decision, bool]:
        """Return the decision, and whether this gateway's own count made it."""
        if not reservation.claims:
            return Decision({}, ()), False
        if self.problem is None or not self.ledger.shared:
            try:
                return self.ledger.reserve(reservation), False
            except TuneryError as error:
                self._away(error)
        if self.settings.when_unreachable == "refuse":
            raise ResourceError(f"limits cannot be counted now: {self.problem}", hint="try again shortly")
        return self._here.reserve(reservation), True

    def _away(self, error: TuneryError) -> None:
        if self.problem is None:
            _LOG.warning("limits cannot be counted: %s", error.message)
        self.problem = error.message

    # The thread.

    def _work(self) -> None:
        refresh_at = time.monotonic() + _REFRESH_S
        while not self._over.is_set():
            self._wake.wait(_TICK_S)
            self._wake.clear()
            if not self._keep_up():
                self._over.wait(_TICK_S)
            if time.monotonic() < refresh_at:
                continue
            refresh_at = time.monotonic() + _REFRESH_S
            try:
                self.refresh()
            except TuneryError as error:
                _LOG.warning("limits that were changed do not hold yet: %s", error.message)

    def _keep_up(self) -> bool:
        """Book what ended and do the ledger's upkeep; say whether nothing is left."""
        try:
            while self._ended:
                with self._guard:
                    batch = [self._ended[n] for n in range(min(len(self._ended), _BATCH))]
                self.ledger.settle(batch)
                with self._guard:
                    for _ in batch:
                        self._ended.popleft()
            self._write_usage()
            with self._guard:
                live = [hold.reservation for hold in self._live.values() if not hold.counted_here]
            self._here.upkeep(())
            self.ledger.upkeep(live)
        except TuneryError as error:
            self._away(error)
            return False
        except Exception:
            _LOG.exception("limits: booking failed; it is tried again")
            return False
        if self.problem is not None:
            _LOG.warning("limits are counted again")
            self.problem = None
        return True

    def _write_usage(self) -> None:
        batch = [self._unrecorded[n] for n in range(len(self._unrecorded))]
        if not batch:
            return
        try:
            with self._workspace.database.transaction() as transaction:
                self._workspace.usage.add(transaction, batch)
        except TuneryError as error:  # the counts may well be elsewhere, and there
            _LOG.warning("usage is not written yet: %s", error.message)
            return
        for _ in batch:
            self._unrecorded.popleft()

    def _now(self) -> float:
        return self._workspace.clock.now().timestamp()
