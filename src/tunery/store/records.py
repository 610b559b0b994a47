"""Records in tables: columns for what is searched by, one JSON document for the rest."""

from __future__ import annotations

import builtins
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from tunery.core.config import Record
from tunery.core.errors import NotFoundError
from tunery.store.database import Database, Row, Transaction, Value

R = TypeVar("R", bound=Record)

_BATCH = 200
"""Records read at once where all are gone through [count]."""
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, which PostgreSQL refuses in text, and halves of characters, which no encoding can write."""


class Page(NamedTuple, Generic[R]):
    """Part of a list."""

    items: list[R]
    has_more: bool
    """Whether there are more behind the last item."""


def utc_text(moment: datetime) -> str:
    """Return a time as ISO text of one width in UTC, so that text order is time order.

    Raises:
        ValueError: The time says nothing about its zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def document(value: Any) -> str:
    """Return JSON for the database; infinities and NaN become the words that a float field reads back."""
    return json.dumps(_storable(value), allow_nan=False, separators=(",", ":"))


def _storable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(key): _storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item) for item in value]
    return value


def to_row(record: Record, columns: Iterable[str]) -> dict[str, Value]:
    """Return the row of a record: the named columns, and ``document`` with what is left."""
    data = record.model_dump(mode="json")
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(value, datetime):
            data[name] = utc_text(value)
    row: dict[str, Value] = {name: data.pop(name) for name in columns if name in data}
    row["document"] = document(data)
    return row


def from_row(kind: type[R], row: Row) -> R:
    """Return the record of a row, all its times in UTC."""
    fields: dict[str, Any] = json.loads(row["document"])
    fields.update((name, value) for name, value in row.items() if name in kind.model_fields)
    for name, value in row.items():
        if isinstance(value, datetime):
            fields[name] = value.astimezone(UTC)
    return kind.model_validate(fields)


def storable(text: str) -> str:
    """Return a text that any database, file and answer can hold: what none can becomes U+FFFD."""
    return _NOT_STORABLE.sub("\ufffd", text)


def _can_be_stored(text: str) -> bool:
    """Say whether a text can stand in a column at all; what cannot is in no row either."""
    return not _NOT_STORABLE.search(text)


class TableLayout(NamedTuple, Generic[R]):
    """How one kind of record lies in its table."""

    table: str
    record: type[R]
    noun: str
    """What messages call one, such as ``dataset version``."""
    columns: tuple[str, ...]
    """Fields that are columns beside ``id`` and ``created_at``."""
    identity: Callable[[R], str] | None = None
    """Gives the ``id`` column of a record that has no field of that name."""
    hint: str | None = None
    """Command that lists what exists."""
    private: bool = False
    """Whether ids belong to those who were given them: a message about an unknown one names no others."""
    condition: str | None = None
    """What every row that is read must fulfil."""
    joined: str = ""
    """Another table with columns of these records, as in ``LEFT JOIN texts ON request_id = id``."""
    joined_columns: tuple[str, ...] = ()


class Records(Generic[R]):
    """One table of records that are found by id and listed by age.

    Names put into a statement here come from a :class:`TableLayout` in this package; values are parameters.
    """

    def __init__(self, database: Database, layout: TableLayout[R]) -> None:
        self.database = database
        self._layout = layout
        self._columns = ("id", "created_at", *layout.columns)
        names, table = (*self._columns, "document"), layout.table
        self._select = self._selecting(layout.joined_columns)
        self._insert = (
            f"INSERT INTO {table} ({', '.join(names)}) "  # noqa: S608
            f"VALUES ({', '.join(':' + name for name in names)}) ON CONFLICT (id) DO NOTHING"
        )
        changed = ", ".join(f"{name} = :{name}" for name in names if name != "id")
        self._update = f"UPDATE {table} SET {changed} WHERE id = :id"  # noqa: S608
        visible = f" AND {layout.condition}" if layout.condition else ""
        self._by_id = f"{self._select} WHERE id = :id{visible}"

    def add(self, record: R) -> R:
        """Store a record; where its id is taken, keep and return the record that has it."""
        with self.database.transaction() as transaction:
            return self.insert(transaction, record)

    def insert(self, transaction: Transaction, record: R) -> R:
        """Store a record as part of a transaction, as :meth:`add` does."""
        row = self._row(record)
        if transaction.run(self._insert, row):
            return record
        return self.read(transaction, str(row["id"]))

    def find(self, id: str) -> R | None:
        """Return the record of an id, None where there is none."""
        rows = self.database.rows(self._by_id, {"id": id}) if _can_be_stored(id) else []
        return self._record(rows[0]) if rows else None

    def get(self, id: str) -> R:
        """Return the record of an id.

        Raises:
            NotFoundError: There is none; names the nearest.
        """
        return self._record(self._row_of(self.database, id))

    def read(self, transaction: Transaction, id: str) -> R:
        """Return the record of an id within a transaction, as :meth:`get` does."""
        return self._record(self._row_of(transaction, id))

    def there(self, transaction: Transaction, id: str) -> bool:
        """Say whether there is a record of an id."""
        sql = f"SELECT 1 AS there FROM {self._layout.table} WHERE id = :id"  # noqa: S608
        return bool(transaction.rows(sql, {"id": id}))

    def write(self, transaction: Transaction, record: R) -> R:
        """Replace a stored record by a newer state of it, and return that."""
        transaction.run(self._update, self._row(record))
        return record

    def change(self, id: str, change: Callable[[R], R]) -> R:
        """Replace a record by ``change`` of it; nobody else changes it meanwhile.

        Raises:
            NotFoundError: There is no record of that id.
        """
        with self.database.transaction(lock=self.lock(id)) as transaction:
            return self.write(transaction, change(self.read(transaction, id)))

    def update(self, id: str, **changes: Any) -> R:
        """Replace fields of a record and return its new state.

        Raises:
            NotFoundError: There is no record of that id.
        """
        return self.change(id, lambda record: record.with_(**changes))

    def delete(self, id: str) -> None:
        """Remove a record.

        Raises:
            NotFoundError: There is no record of that id.
        """
        with self.database.transaction(lock=self.lock(id)) as transaction:
            self.read(transaction, id)
            self.erase(transaction, id)

    def erase(self, transaction: Transaction, id: str) -> None:
        """Remove a record as part of a transaction; one that is not there is no error."""
        transaction.run(f"DELETE FROM {self._layout.table} WHERE id = :id", {"id": id})  # noqa: S608

    def lock(self, id: str) -> str:
        """Return the name of the lock that changes of one record are made under."""
        return f"{self._layout.table}/{id}"

    def list(self, limit: int = 100, **where: Value) -> builtins.list[R]:
        """Return the newest records, newest first; ``where`` as for :meth:`page`."""
        return self.page(where=where, limit=limit).items

    def every(self, after: str | None = None, **where: Value) -> Iterator[R]:
        """Yield records, newest first, some hundreds in memory at a time; arguments as for :meth:`page`."""
        while True:
            page = self.page(where=where, after=after, limit=_BATCH)
            yield from page.items
            if not page.has_more:
                return
            after = str(self._row(page.items[-1])["id"])

    def filtered(self, keep: Callable[[R], bool], *, after: str | None = None, limit: int = 100) -> Page[R]:
        """Return a part of the list of those records that ``keep`` says yes to, newest first."""
        found = list(islice(filter(keep, self.every(after)), limit + 1))
        return Page(found[:limit], len(found) > limit)

    def page(
        self,
        *,
        where: Mapping[str, Value] | None = None,
        after: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> Page[R]:
        """Return a part of the list.

        Args:
            where: Columns and the value each must have; None stands for any.
            after: Id of the record that the part begins behind.
            limit: Records at most [count].
            oldest_first: Else newest first.

        Raises:
            NotFoundError: There is no record with the id ``after``.
        """
        wanted = {name: value for name, value in (where or {}).items() if value is not None}
        conditions = [f"{name} = :{name}" for name in wanted]
        return self._page(self._select, conditions, wanted, after, limit, oldest_first=oldest_first)

    def _page(
        self,
        select: str,
        conditions: Sequence[str],
        params: Mapping[str, Value],
        after: str | None,
        limit: int,
        *,
        oldest_first: bool = False,
    ) -> Page[R]:
        """Return a part of the list that ``select`` begins, of rows that fulfil conditions on ``params``."""
        given, conditions = dict(params), list(conditions)
        if self._layout.condition:
            conditions.append(self._layout.condition)
        if after is not None:
            given["after_seq"] = self._place_of(after)
            conditions.append(f"seq {'>' if oldest_first else '<'} :after_seq")
        if not all(_can_be_stored(value) for value in given.values() if isinstance(value, str)):
            return Page([], has_more=False)
        kept = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "ASC" if oldest_first else "DESC"
        given["limit"] = limit + 1
        rows = self.database.rows(f"{select}{kept} ORDER BY seq {order} LIMIT :limit", given)
        return Page([self._record(row) for row in rows[:limit]], len(rows) > limit)

    def _place_of(self, after: str) -> int:
        """Return where a list goes on behind a record; one that was deleted meanwhile keeps its place."""
        sql = f"SELECT seq FROM {self._layout.table} WHERE id = :id"  # noqa: S608
        rows = self.database.rows(sql, {"id": after}) if _can_be_stored(after) else []
        if not rows:
            error = self._unknown(self.database, after)
            raise NotFoundError(error.message, hint=error.hint, param="after")
        return int(rows[0]["seq"])

    def select(self, transaction: Transaction, rest: str, params: Mapping[str, Value]) -> builtins.list[R]:
        """Return the records of a longer query; ``rest`` follows ``SELECT … FROM table``."""
        return [self._record(row) for row in transaction.rows(f"{self._select} {rest}", params)]

    def _row_of(self, source: Database | Transaction, id: str) -> Row:
        rows = source.rows(self._by_id, {"id": id}) if _can_be_stored(id) else []
        if rows:
            return rows[0]
        raise self._unknown(source, id)

    def _unknown(self, source: Database | Transaction, id: str) -> NotFoundError:
        shown = id[:160].encode("utf-8", "backslashreplace").decode()
        if self._layout.private:
            return NotFoundError(f"no {self._layout.noun} with the id {shown!r}", hint=self._layout.hint)
        known = source.rows(f"SELECT id FROM {self._layout.table} ORDER BY seq DESC LIMIT 1000")  # noqa: S608
        ids = (str(row["id"]) for row in known)
        return NotFoundError.of(self._layout.noun, shown, ids, hint=self._layout.hint)

    def _selecting(self, joined: Iterable[str] = ()) -> str:
        """Return the beginning of a query that reads rows with these columns of the joined table."""
        names = ", ".join(("seq", *self._columns, "document", *joined))
        source = " ".join(filter(None, (self._layout.table, self._layout.joined)))
        return f"SELECT {names} FROM {source}"  # noqa: S608

    def _row(self, record: R) -> dict[str, Value]:
        row = to_row(record, self._columns)
        if self._layout.identity is not None:
            row["id"] = self._layout.identity(record)
        return row

    def _record(self, row: Row) -> R:
        return from_row(self._layout.record, row)
