"""How limits stand: what is used, what is left, and when it comes back; for operators and for callers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tunery.traffic.limits.account import MINUTE, Account, Claim, Periods


class Standing(NamedTuple):
    """One limit of one scope."""

    scope: str
    limit: str
    bound: float
    used: float
    """Of a limit by the minute: what has not been refilled yet."""
    reserved: float
    """By calls in flight, beside what is used."""
    left: float
    resets_at: datetime | None
    """When all of it is there again, if nobody calls; None where nothing is missing or calls must end."""

    def fields(self) -> dict[str, Any]:
        """Return it as programs read it: tokens and requests are whole."""
        money = self.limit.startswith("usd")
        fields = self._asdict()
        for name in ("bound", "used", "reserved", "left"):
            fields[name] = round(fields[name], 9) if money else int(fields[name] + 1e-6)
        fields["resets_at"] = self.resets_at.isoformat() if self.resets_at else None
        return fields


def standings(claim: Claim, account: Account | None, now: float) -> Iterator[Standing]:
    """Yield how each limit of a scope stands; a scope that nobody counted in has used nothing."""
    account = account or Account()
    account.advance(now, claim.bounds)
    for limit, bound in claim.bounds.items():
        used, held = account.state(limit)
        ends: float | None = None
        if limit.endswith("_per_minute"):
            ends = now + used * MINUTE / bound if used and bound else None
        elif limit != "parallel_requests" and used:
            ends = Periods(account.day, account.month).ends()[limit.endswith("month")]
        resets_at = None if ends is None else datetime.fromtimestamp(ends, UTC)
        left = account.left(limit, bound)
        yield Standing(claim.account, limit, bound, used, held, left, resets_at)
