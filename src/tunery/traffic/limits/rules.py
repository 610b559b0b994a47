"""From who calls to the accounts that its call counts in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from tunery.core.limits import EACH, LimitRule, Limits, Scope
from tunery.traffic.limits.account import Claim
from tunery.traffic.limits.config import LimitSettings

_REMEMBERED = 10_000
"""Callers whose claims are remembered [count]."""
_Shape: TypeAlias = tuple[str | None, ...]


class Rules:
    """Limits of records and settings; replaced as a whole when a record changes.

    Args:
        settings: What holds where no record says else.
        records: What operators set.
    """

    def __init__(self, settings: LimitSettings, records: Iterable[LimitRule] = ()) -> None:
        self._limits: dict[Scope, Limits] = {rule.scope: rule.limits for rule in records}
        for scope, limits in settings.defaults():
            self._limits[scope] = self._limits[scope].over(limits) if scope in self._limits else limits
        self._shapes = sorted({_shape(scope) for scope in self._limits}, key=_wildcards)
        self._known: dict[Scope, tuple[Claim, ...]] = {}

    def claims(self, caller: Scope) -> tuple[Claim, ...]:
        """Return the accounts that bound a caller; where two rules mean one, the closer one counts."""
        found = self._known.get(caller)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known = {}
            found = self._known[caller] = self._find(caller)
        return found

    def _find(self, caller: Scope) -> tuple[Claim, ...]:
        merged: dict[str, Limits] = {}
        for shape in self._shapes:  # the closest first
            meant = Scope(
                *(theirs if mark == "=" else mark for mark, theirs in zip(shape, caller, strict=True))
            )
            limits = self._limits.get(meant)
            if limits is None or not meant.covers(caller):
                continue
            account = meant.of(caller).account
            merged[account] = merged[account].over(limits) if account in merged else limits
        claims = (Claim(account, dict(limits.bounds())) for account, limits in merged.items())
        return tuple(claim for claim in claims if claim.bounds)


def _shape(scope: Scope) -> _Shape:
    return tuple(None if part is None else EACH if part == EACH else "=" for part in scope)


def _wildcards(shape: _Shape) -> tuple[int, str]:
    return sum(mark == EACH for mark in shape), str(shape)
