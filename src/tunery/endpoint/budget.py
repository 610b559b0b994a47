"""A budget in tokens and money: what is in flight counts at its ceiling until its price is known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple


class Amount(NamedTuple):
    """Tokens and what they cost."""

    tokens: int
    usd: float


class Limits(NamedTuple):
    """What requests may cost together; None for no limit."""

    tokens: int | None = None
    usd: float | None = None


NO_LIMITS = Limits()


def total(amounts: Iterable[Amount]) -> Amount:
    """Return amounts added up."""
    every = list(amounts)
    return Amount(sum(a.tokens for a in every), sum((a.usd for a in every), 0.0))


class BudgetSpent(Exception):  # noqa: N818 - an outcome, counted by the caller
    """Not even with nothing in flight is there enough left for the request."""


class Budget:
    """Hands out reservations and never lets spent and reserved together exceed a limit.

    Args:
        limits: What may be spent.
        spent: What earlier calls spent.
    """

    def __init__(self, limits: Limits, spent: Amount) -> None:
        self._limits = limits
        self.spent = spent
        self._reserved: list[Amount] = []
        self._changed = asyncio.Condition()

    async def reserve(self, amount: Amount) -> None:
        """Set an amount aside, waiting for requests in flight to turn out cheaper than their ceiling.

        Raises:
            BudgetSpent: There is not enough left, whatever those cost.
        """
        async with self._changed:
            while not self._fits(amount):
                if not self._reserved:
                    raise BudgetSpent
                await self._changed.wait()
            self._reserved.append(amount)

    async def settle(self, reserved: Amount, spent: Amount) -> None:
        """Give a reservation back and book what was really spent."""
        async with self._changed:
            self._reserved.remove(reserved)
            self.spent = total([self.spent, spent])
            self._changed.notify_all()

    def _fits(self, amount: Amount) -> bool:
        tokens, usd = total([self.spent, *self._reserved, amount])
        limits = self._limits
        return (limits.tokens is None or tokens <= limits.tokens) and (
            limits.usd is None or usd <= limits.usd
        )
