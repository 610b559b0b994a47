"""Limits that operators set, how far each is used, and what was used by whom on which day."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from tunery.core.clock import Clock
from tunery.core.errors import NotFoundError
from tunery.core.limits import DayUsage, LimitRule, Limits, Scope, Usage
from tunery.store.database import Database, Row, Transaction, Value
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout("limit_rules", LimitRule, "limit", (), hint="tunery limits ls")
_ADD_USAGE = """
INSERT INTO usage (day, project, key_id, model, requests, prompt_tokens, completion_tokens, usd)
VALUES (:day, :project, :key, :model, :requests, :prompt_tokens, :completion_tokens, :usd)
ON CONFLICT (day, project, key_id, model) DO UPDATE SET
  requests = usage.requests + excluded.requests,
  prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
  completion_tokens = usage.completion_tokens + excluded.completion_tokens,
  usd = usage.usd + excluded.usd
"""
_SUMS = (
    "COALESCE(SUM(requests), 0) AS requests, COALESCE(SUM(prompt_tokens), 0) AS prompt_tokens, "
    "COALESCE(SUM(completion_tokens), 0) AS completion_tokens, COALESCE(SUM(usd), 0) AS usd"
)
_COUNTED = ("requests", "prompt_tokens", "completion_tokens")
_KEEP = """
INSERT INTO limit_accounts (name, month, state) VALUES (:name, :month, :state)
ON CONFLICT (name) DO UPDATE SET month = excluded.month, state = excluded.state
"""
_OPEN = """
INSERT INTO limit_accounts (name, month, state) VALUES (:name, :month, :state) ON CONFLICT (name) DO NOTHING
"""
LAPSED = "lapsed"
_HOLD = """
INSERT INTO limit_reservations (id, ends_at, state) VALUES (:id, :ends_at, :state)
ON CONFLICT (id) DO UPDATE SET ends_at = excluded.ends_at, state = excluded.state
"""
_COLUMNS = {"project": "project", "key": "key_id", "model": "model", "day": "day"}
"""What usage can be told apart by, to its column."""


class Held(NamedTuple):
    """A reservation as it is stored."""

    ends_at: float
    """End of its lease; of one that is over, until when that is remembered [s since 1970]."""
    state: str | None
    """What it holds, as text; None once it was settled, :data:`LAPSED` once it was given back."""

    @property
    def is_live(self) -> bool:
        """Whether it holds something."""
        return self.state is not None and self.state != LAPSED


class LimitRules(Records[LimitRule]):
    """One record a scope."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, _LAYOUT)
        self._clock = clock

    def set(self, scope: Scope, limits: Limits, *, cleared: Iterable[str] = ()) -> LimitRule:
        """Set limits of a scope; those that are left out stay as they were, unless they are to be cleared."""
        now = self._clock.now()
        fresh = LimitRule(id=scope.text, scope=scope, limits=limits, created_at=now, changed_at=now)

        def put(transaction: Transaction) -> LimitRule:
            kept = self.insert(transaction, fresh)
            if kept is fresh:
                return fresh
            before = kept.limits.model_copy(update=dict.fromkeys(cleared))
            return self.write(transaction, kept.with_(limits=limits.over(before), changed_at=now))

        return self.database.atomically(put, lock=self.lock(scope.text))

    def remove(self, scope: Scope) -> LimitRule:
        """Remove the limits of a scope.

        Raises:
            NotFoundError: There are none.
        """
        removed = self.find(scope.text)
        if removed is None:
            known = [rule.id for rule in self.every()]
            raise NotFoundError.of("limit", scope.text, known, hint="tunery limits ls")
        self.delete(scope.text)
        return removed


class Counts:
    """How far limits are used: accounts by name, each with its state as text, and reservations of them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def read(self, names: Sequence[str]) -> dict[str, str]:
        """Return the states of those accounts that there are."""
        if not names:
            return {}
        marks, params = _listed(names)
        rows = self.database.rows(f"SELECT name, state FROM limit_accounts WHERE name IN ({marks})", params)  # noqa: S608
        return {str(row["name"]): str(row["state"]) for row in rows}

    def write(self, states: Mapping[str, tuple[int, str]]) -> None:
        """Store accounts: each with the month it counts, and its state."""

        def put(transaction: Transaction) -> None:
            self.save(transaction, states)

        self.database.atomically(put)

    def save(self, transaction: Transaction, states: Mapping[str, tuple[int, str]]) -> None:
        """Store accounts as part of a transaction."""
        for name, (month, state) in sorted(states.items()):
            transaction.run(_KEEP, {"name": name, "month": month, "state": state})

    def hold(self, transaction: Transaction, names: Iterable[str]) -> dict[str, str]:
        """Return the states of those accounts that there are; nobody else changes them meanwhile.

        They are taken in the order of their names, so that two who want the same do not wait for each other.
        """
        marks, params = _listed(sorted(set(names)))
        rows = transaction.rows(
            f"SELECT name, state FROM limit_accounts WHERE name IN ({marks}) ORDER BY name FOR UPDATE",  # noqa: S608
            params,
        )
        return {str(row["name"]): str(row["state"]) for row in rows}

    def open(self, transaction: Transaction, states: Mapping[str, tuple[int, str]]) -> None:
        """Store accounts that are not there yet."""
        for name, (month, state) in sorted(states.items()):
            transaction.run(_OPEN, {"name": name, "month": month, "state": state})

    def held(self, transaction: Transaction, ids: Sequence[str]) -> dict[str, Held]:
        """Return those reservations that there are; nobody else changes them meanwhile."""
        marks, params = _listed(sorted(ids))
        rows = transaction.rows(
            f"SELECT id, ends_at, state FROM limit_reservations WHERE id IN ({marks}) ORDER BY id FOR UPDATE",  # noqa: S608
            params,
        )
        return {str(row["id"]): Held(float(row["ends_at"]), row["state"]) for row in rows}

    def put(self, transaction: Transaction, reservations: Mapping[str, Held]) -> None:
        """Store reservations as part of a transaction."""
        for id, held in sorted(reservations.items()):
            transaction.run(_HOLD, {"id": id, "ends_at": held.ends_at, "state": held.state})

    def renew(self, ids: Sequence[str], ends_at: float) -> None:
        """Keep reservations until a later time."""
        marks, params = _listed(ids)
        with self.database.transaction() as transaction:
            transaction.run(
                "UPDATE limit_reservations SET ends_at = :ends_at "  # noqa: S608
                f"WHERE id IN ({marks}) AND state <> :lapsed",
                {**params, "ends_at": ends_at, "lapsed": LAPSED},
            )

    def lapsed(self, now: float) -> dict[str, Held]:
        """Return some reservations whose lease is over."""
        rows = self.database.rows(
            "SELECT id, ends_at, state FROM limit_reservations "
            "WHERE ends_at <= :now AND state <> :lapsed ORDER BY ends_at LIMIT 100",
            {"now": now, "lapsed": LAPSED},
        )
        return {str(row["id"]): Held(float(row["ends_at"]), row["state"]) for row in rows}

    def forget_ended(self, now: float) -> None:
        """Delete reservations that were over long ago."""
        with self.database.transaction() as transaction:
            transaction.run(
                "DELETE FROM limit_reservations WHERE ends_at <= :now AND (state IS NULL OR state = :lapsed)",
                {"now": now, "lapsed": LAPSED},
            )

    def moment(self, transaction: Transaction | None = None) -> float:
        """Return the time of the database server's clock [s since 1970]."""
        sql = "SELECT EXTRACT(EPOCH FROM clock_timestamp()) AS now"
        rows = self.database.rows(sql) if transaction is None else transaction.rows(sql)
        return float(rows[0]["now"])

    def forget(self, before_month: int) -> None:
        """Delete accounts that count nothing any more."""
        with self.database.transaction() as transaction:
            transaction.run("DELETE FROM limit_accounts WHERE month < :month", {"month": before_month})


class UsageLog:
    """What was used, summed by day, project, key and model.

    Args:
        project: The one whose usage there is; None for all.
    """

    def __init__(self, database: Database, project: str | None = None) -> None:
        self.database = database
        self.project = project

    def add(self, transaction: Transaction, used: Iterable[DayUsage]) -> None:
        """Add what calls used, as part of the transaction that stores their records."""
        sums: dict[tuple[str, str, str, str], Usage] = {}
        for day, project, key, model, usage in used:
            place = (day.isoformat(), project, key, model)
            sums[place] = sums.get(place, Usage()).plus(usage)
        for (day_text, project, key, model), usage in sorted(sums.items()):
            where = {"day": day_text, "project": project, "key": key, "model": model}
            transaction.run(_ADD_USAGE, {**where, **usage._asdict()})

    def total(self, scope: Scope, since: date, until: date) -> Usage:
        """Return what was used in a scope from one day to another, both counted; users are not told apart."""
        where = {name: value for name, value in scope._asdict().items() if name != "user"}
        conditions, params = self._matching(where, since, until)
        row = self.database.rows(f"SELECT {_SUMS} FROM usage WHERE {conditions}", params)[0]  # noqa: S608
        return _usage(row)

    def by(
        self, parts: Sequence[str], where: Mapping[str, str | None], since: date, until: date
    ) -> builtins.list[tuple[dict[str, str], Usage]]:
        """Return usage from one day to another, told apart by ``day``, ``project``, ``key`` or ``model``."""
        columns = ", ".join(_COLUMNS[part] for part in parts)
        conditions, params = self._matching(where, since, until)
        rows = self.database.rows(
            f"SELECT {columns}, {_SUMS} FROM usage WHERE {conditions} GROUP BY {columns} ORDER BY {columns}",  # noqa: S608
            params,
        )
        return [({part: str(row[_COLUMNS[part]]) for part in parts}, _usage(row)) for row in rows]

    def _matching(
        self, where: Mapping[str, str | None], since: date, until: date
    ) -> tuple[str, dict[str, Value]]:
        """Return the conditions of a query and their parameters; of a project's own log, its project's."""
        params: dict[str, Value] = {"since": since.isoformat(), "until": until.isoformat()}
        params.update((name, value) for name, value in where.items() if value is not None)
        named = [f"{_COLUMNS[name]} = :{name}" for name in params if name in _COLUMNS]
        if self.project is not None:
            params["mine"] = self.project
            named.append("project = :mine")
        return " AND ".join(["day >= :since", "day <= :until", *named]), params


def _usage(row: Row) -> Usage:
    requests, prompt, completion = (int(row[name]) for name in _COUNTED)
    return Usage(requests, prompt, completion, float(row["usd"]))


def _listed(names: Sequence[str]) -> tuple[str, dict[str, Value]]:
    params: dict[str, Value] = {_parameter(n): name for n, name in enumerate(names)}
    return ", ".join(f":{name}" for name in params), params


def _parameter(n: int) -> str:
    """Return a parameter's name, of letters alone."""
    return "n" + "".join(chr(ord("a") + int(digit)) for digit in str(n))
