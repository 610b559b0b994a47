"""Limits that operators set, how far each is used, and what was used by whom on which day."""

from __future__ import annotations

import builtins
import json
import secrets
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
_MERGE = "ON CONFLICT (name) DO UPDATE SET month = excluded.month, state = excluded.state"
_ACCOUNTS = f"""
INSERT INTO limit_accounts (name, month, state)
SELECT name, month, state
FROM json_to_recordset(CAST(:accounts AS json)) AS given (name text, month integer, state text)
{_MERGE}
"""  # noqa: S608 - of constants
_KEEP = {
    "postgresql": _ACCOUNTS,
    # WHERE, or SQLite would take ON for a join's.
    "sqlite": f"""
INSERT INTO limit_accounts (name, month, state)
SELECT json_extract(value, '$.name'), json_extract(value, '$.month'), json_extract(value, '$.state')
FROM json_each(:accounts) WHERE true
{_MERGE}
""",  # noqa: S608 - of constants
}
_PUT = f"""
WITH accounts AS ({_ACCOUNTS})
INSERT INTO limit_reservations (id, ends_at, state)
SELECT id, ends_at, state
FROM json_to_recordset(CAST(:held AS json)) AS given (id text, ends_at double precision, state text)
ON CONFLICT (id) DO UPDATE SET ends_at = excluded.ends_at, state = excluded.state
"""  # noqa: S608 - of constants
_LOCK = """
SELECT name, state, EXTRACT(EPOCH FROM clock_timestamp()) AS now,
  (SELECT json_agg(id) FROM limit_reservations
   WHERE id IN (SELECT json_array_elements_text(CAST(:ids AS json)))) AS known
FROM limit_accounts WHERE name IN (SELECT json_array_elements_text(CAST(:names AS json)))
ORDER BY name FOR UPDATE OF limit_accounts
"""
_HELD = """
SELECT id, ends_at, state FROM limit_reservations
WHERE id IN (SELECT json_array_elements_text(CAST(:ids AS json))) ORDER BY id FOR UPDATE
"""
_OPEN = """
INSERT INTO limit_accounts (name, month, state) VALUES (:name, :month, :state) ON CONFLICT (name) DO NOTHING
"""
LAPSED = "lapsed"
_MARK = "SELECT value FROM facts WHERE name = 'limits'"
_COLUMNS = {"project": "project", "key": "key_id", "model": "model", "day": "day"}
"""What usage can be split by, to its column."""


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

    def stamp(self) -> tuple[tuple[str, str], ...]:
        """Return what differs when any rule does; far cheaper than reading them."""
        rows = self.database.rows("SELECT id, document FROM limit_rules ORDER BY seq")
        return tuple((str(row["id"]), str(row["document"])) for row in rows)

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


class Locked(NamedTuple):
    """Accounts that nobody else changes until the transaction ends."""

    states: dict[str, str]
    """By name; those that are not there are left out."""
    known: frozenset[str]
    """Which of the calls in question have a reservation, be it settled."""
    held: dict[str, Held]
    """Reservations that were asked for and are there; nobody else changes them either."""
    now: float
    """The database server's clock [s since 1970]."""


class Counts:
    """How far limits are used: accounts by name, each with its state as text, and reservations of them.

    What takes a transaction is for PostgreSQL, where gateways share counts; each is one statement, because
    others wait for the rows that it locks.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def mark(self) -> str:
        """Return a name that all servers of this database have in common and no others."""
        mine = secrets.token_hex(8)

        def settle(transaction: Transaction) -> str:
            put = "INSERT INTO facts (name, value) VALUES ('limits', :mark) ON CONFLICT (name) DO NOTHING"
            transaction.run(put, {"mark": mine})
            return str(transaction.rows(_MARK)[0]["value"])

        known = self.database.rows(_MARK)
        return str(known[0]["value"]) if known else self.database.atomically(settle)

    def read(self, names: Sequence[str]) -> dict[str, str]:
        """Return the states of those accounts that there are."""
        sql = f"SELECT name, state FROM limit_accounts WHERE name IN ({self._texts('names')})"  # noqa: S608
        rows = self.database.rows(sql, {"names": json.dumps(names)})
        return {str(row["name"]): str(row["state"]) for row in rows}

    def write(self, states: Mapping[str, tuple[int, str]]) -> None:
        """Store accounts: each with the month it counts, and its state."""

        def put(transaction: Transaction) -> None:
            self.save(transaction, states)

        self.database.atomically(put)

    def save(self, transaction: Transaction, states: Mapping[str, tuple[int, str]]) -> None:
        """Store accounts as part of a transaction."""
        rows = [{"name": name, "month": month, "state": state} for name, (month, state) in states.items()]
        transaction.run(_KEEP[self.database.driver.dialect], {"accounts": json.dumps(rows)})

    def hold(
        self,
        transaction: Transaction,
        names: Iterable[str],
        *,
        known: Iterable[str] = (),
        held: Iterable[str] = (),
    ) -> Locked:
        """Lock accounts, in the order of their names: two who want the same do not wait for each other.

        Args:
            known: Calls of which it is only asked whether they have a reservation.
            held: Calls whose reservations are locked, too. They are read by a statement of their own, which
                sees what those did who had the accounts before.
        """
        params = {"names": json.dumps(sorted(set(names))), "ids": json.dumps([*known])}
        accounts = transaction.later(_LOCK, params)
        ids = sorted(held)
        reservations = transaction.later(_HELD, {"ids": json.dumps(ids)}) if ids else list[Row]
        rows = accounts()
        found = frozenset(json.loads(rows[0]["known"] or "[]")) if rows else frozenset[str]()
        return Locked(
            {str(row["name"]): str(row["state"]) for row in rows},
            found,
            {str(row["id"]): Held(float(row["ends_at"]), row["state"]) for row in reservations()},
            float(rows[0]["now"]) if rows else self.moment(transaction),
        )

    def open(self, transaction: Transaction, states: Mapping[str, tuple[int, str]]) -> None:
        """Store accounts that are not there yet."""
        for name, (month, state) in sorted(states.items()):
            transaction.run(_OPEN, {"name": name, "month": month, "state": state})

    def put(
        self,
        transaction: Transaction,
        states: Mapping[str, tuple[int, str]],
        reservations: Mapping[str, Held],
    ) -> None:
        """Store accounts and reservations as part of a transaction."""
        accounts = [{"name": name, "month": month, "state": state} for name, (month, state) in states.items()]
        held = [{"id": id, "ends_at": r.ends_at, "state": r.state} for id, r in sorted(reservations.items())]
        transaction.run(_PUT, {"accounts": json.dumps(accounts), "held": json.dumps(held)})

    def renew(self, ids: Sequence[str], ends_at: float) -> None:
        """Keep reservations until a later time."""
        params: dict[str, Value] = {"ids": json.dumps(ids), "ends_at": ends_at, "lapsed": LAPSED}
        with self.database.transaction() as transaction:
            transaction.run(
                "UPDATE limit_reservations SET ends_at = :ends_at "  # noqa: S608
                f"WHERE id IN ({self._texts('ids')}) AND state <> :lapsed",
                params,
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

    def _texts(self, name: str) -> str:
        """Return a query of the texts in a parameter that is a JSON array."""
        if self.database.driver.dialect == "postgresql":
            return f"SELECT json_array_elements_text(CAST(:{name} AS json))"
        return f"SELECT value FROM json_each(:{name})"  # noqa: S608


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
        """Return what was used in a scope from one day to another, both counted; users are summed up."""
        where = {name: value for name, value in scope._asdict().items() if name != "user"}
        conditions, params = self._matching(where, since, until)
        row = self.database.rows(f"SELECT {_SUMS} FROM usage WHERE {conditions}", params)[0]  # noqa: S608
        return _usage(row)

    def by(
        self, parts: Sequence[str], where: Mapping[str, str | None], since: date, until: date
    ) -> builtins.list[tuple[dict[str, str], Usage]]:
        """Return usage from one day to another, split by ``day``, ``project``, ``key`` or ``model``."""
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
