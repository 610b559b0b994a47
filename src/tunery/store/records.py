"""Records in tables: columns for what is searched by, one JSON document for the rest."""

from __future__ import annotations

import builtins
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from tunery.core.config import Record
from tunery.core.errors import DamagedRowError, ForbiddenError, NotFoundError
from tunery.store.database import Database, Row, Transaction, Value

R = TypeVar("R", bound=Record)
T = TypeVar("T")
_LOG = logging.getLogger(__name__)

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


def read_moment(value: str | datetime) -> datetime:
    """Return the time of a column, in UTC: SQLite gives the text that :func:`utc_text` wrote."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC)


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
    """Return the record of a row, all its times in UTC.

    Raises:
        ValueError: The row is damaged; the message says where.
    """
    fields = json.loads(row["document"])
    if not isinstance(fields, dict):
        raise ValueError("document: a JSON object is expected")
    fields.update((name, value) for name, value in row.items() if name in kind.model_fields)
    for name, value in row.items():
        if isinstance(value, datetime):
            fields[name] = value.astimezone(UTC)
    record = kind.model_validate(fields)
    for name in kind.model_fields:
        # A time without a zone is none that was written here, and cannot be compared with ours.
        if isinstance(value := getattr(record, name), datetime) and value.tzinfo is None:
            raise ValueError(f"{name}: {value!s} has no time zone")
    return record


def read_row(database: Database, table: str, row: Row, read: Callable[[Row], T]) -> T:
    """Return what ``read`` makes of a row.

    Raises:
        DamagedRowError: It cannot be read; names database, table and row, says why and what mends it.
    """
    try:
        return read(row)
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError, RecursionError) as error:
        name = next((str(row[key]) for key in ("id", "name") if row.get(key) is not None), "without a name")
        told = name.encode("ascii", "backslashreplace").decode()[:80]
        where = f"{database.driver.label}, table {table}, row {row.get('seq', '?')} ({told})"
        raise DamagedRowError(
            f"{where} is damaged: {_what_is_wrong(error)}",
            hint="restore the database from a backup, or take the row out: "
            + database.driver.mend(table, row.get("seq", "?")),
        ) from error


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"document: no JSON ({error.msg} at character {error.pos:,})"
    if isinstance(error, ValidationError):
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
        return "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    return f"{type(error).__name__}: {error}"[:200]


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
    owned: str | None = None
    """What rows of one project fulfil, its name as ``:project``; None where rows belong to no project."""
    joined: str = ""
    """Another table with columns of these records, as in ``LEFT JOIN texts ON request_id = id``."""
    joined_columns: tuple[str, ...] = ()


class Query(NamedTuple):
    """Which rows of a table a list is of."""

    select: str
    """Its begin, up to the table."""
    conditions: Sequence[str]
    """All of which a row must fulfil."""
    params: Mapping[str, Value]
    """Values of the parameters in the conditions."""
    oldest_first: bool = False


class Records(Generic[R]):
    """One table of records that are found by id and listed by age.

    Names put into a statement here come from a :class:`TableLayout` in this package; values are parameters.

    Args:
        database: Where the table is.
        layout: The table.
        project: Whose rows there are; those of all others neither exist nor can be made. None sees all.
    """

    def __init__(self, database: Database, layout: TableLayout[R], project: str | None = None) -> None:
        self.database = database
        self.project = project
        self._layout = layout
        self._source = layout.table
        if project is not None:
            if layout.owned is None:
                raise ValueError(f"{layout.table} belong to no project")
            # Every statement that reads names this in place of the table, so that none can forget it.
            self._source = f"(SELECT * FROM {layout.table} WHERE {layout.owned}) AS {layout.table}"  # noqa: S608
        self._columns = ("id", "created_at", *layout.columns)
        names, table = (*self._columns, "document"), layout.table
        self._select = self._selecting(layout.joined_columns)
        self._insert = (
            f"INSERT INTO {table} ({', '.join(names)}) "  # noqa: S608
            f"VALUES ({', '.join(':' + name for name in names)}) ON CONFLICT (id) DO NOTHING"
        )
        changed = ", ".join(f"{name} = :{name}" for name in names if name != "id")
        owned = f" AND {layout.owned}" if project is not None else ""
        self._update = f"UPDATE {table} SET {changed} WHERE id = :id{owned}"  # noqa: S608
        self._delete = f"DELETE FROM {table} WHERE id = :id{owned}"  # noqa: S608
        visible = f" AND {layout.condition}" if layout.condition else ""
        self._by_id = f"{self._select} WHERE id = :id{visible}"

    def add(self, record: R) -> R:
        """Store a record; where its id is taken, keep and return the record that has it."""
        return self.database.atomically(lambda transaction: self.insert(transaction, record))

    def insert(self, transaction: Transaction, record: R) -> R:
        """Store a record as part of a transaction, as :meth:`add` does.

        Raises:
            ForbiddenError: What it is of belongs to another project.
        """
        record = self.own(record)
        row = self._row(record)
        if not transaction.run(self._insert, row):
            return self.read(transaction, str(row["id"]))
        if self.project is not None and not self.there(transaction, str(row["id"])):
            raise ForbiddenError(f"this {self._layout.noun} would be of something that is not this project's")
        return record

    def own(self, record: R) -> R:
        """Return a record as one of this project, which it becomes when it is stored."""
        if self.project is None or "project" not in type(record).model_fields:
            return record
        return record.model_copy(update={"project": self.project})

    def find(self, id: str) -> R | None:
        """Return the record of an id, None where there is none."""
        rows = self.database.rows(self._by_id, self._params({"id": id})) if _can_be_stored(id) else []
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
        sql = f"SELECT 1 AS there FROM {self._source} WHERE id = :id"  # noqa: S608
        return bool(transaction.rows(sql, self._params({"id": id})))

    def write(self, transaction: Transaction, record: R) -> R:
        """Replace a stored record by a newer state of it, and return that."""
        transaction.run(self._update, self._params(self._row(record)))
        return record

    def change(self, id: str, change: Callable[[R], R]) -> R:
        """Replace a record by ``change`` of it; nobody else changes it meanwhile.

        ``change`` may be asked twice, as the body of :meth:`Database.atomically`.

        Raises:
            NotFoundError: There is no record of that id.
        """
        return self.database.atomically(
            lambda transaction: self.write(transaction, change(self.read(transaction, id))),
            lock=self.lock(id),
        )

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

        def remove(transaction: Transaction) -> None:
            self._row_of(transaction, id)  # a damaged one can be removed too
            self.erase(transaction, id)

        self.database.atomically(remove, lock=self.lock(id))

    def erase(self, transaction: Transaction, id: str) -> None:
        """Remove a record as part of a transaction; one that is not there is no error."""
        transaction.run(self._delete, self._params({"id": id}))

    def lock(self, id: str) -> str:
        """Return the name of the lock that changes of one record are made under."""
        return f"{self._layout.table}/{id}"

    def list(self, limit: int = 100, **where: Value) -> builtins.list[R]:
        """Return the newest records, newest first; ``where`` as for :meth:`page`."""
        return self.page(where=where, limit=limit).items

    def every(self, after: str | None = None, **where: Value) -> Iterator[R]:
        """Yield records, newest first, some hundreds in memory at a time; arguments as for :meth:`page`."""
        behind = None if after is None else self._place_of(after)
        query = self._query(where)
        while True:
            rows = self._rows(query, behind, _BATCH)
            yield from self._readable(rows[:_BATCH])
            if len(rows) <= _BATCH:
                return
            if (last := self._last(rows[_BATCH - 1], behind, oldest_first=False)) is None:
                return
            behind = last

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
        """Return a part of the list; a row that is damaged is left out and named in a warning.

        Args:
            where: Columns and the value each must have; None stands for any.
            after: Id of the record that the part begins behind.
            limit: Records at most [count].
            oldest_first: Else newest first.

        Raises:
            NotFoundError: There is no record with the id ``after``.
        """
        return self._page(self._query(where or {}, oldest_first=oldest_first), after, limit)

    def select(self, transaction: Transaction, rest: str, params: Mapping[str, Value]) -> builtins.list[R]:
        """Return the records of a longer query; ``rest`` follows ``SELECT … FROM table``.

        Damaged rows are left out, as :meth:`page` leaves them out.
        """
        return [*self._readable(transaction.rows(f"{self._select} {rest}", self._params(params)))]

    def _query(self, where: Mapping[str, Value], *, oldest_first: bool = False) -> Query:
        wanted = {name: value for name, value in where.items() if value is not None}
        return Query(self._select, [f"{name} = :{name}" for name in wanted], wanted, oldest_first)

    def _page(self, query: Query, after: str | None, limit: int) -> Page[R]:
        """Return a part of the list that a query gives."""
        behind = None if after is None else self._place_of(after)
        items: builtins.list[R] = []
        while True:
            wanted = limit - len(items)
            rows = self._rows(query, behind, wanted)
            items += self._readable(rows[:wanted])
            if len(rows) <= wanted or len(items) == limit:
                return Page(items, len(rows) > wanted)
            if (last := self._last(rows[wanted - 1], behind, oldest_first=query.oldest_first)) is None:
                return Page(items, has_more=False)
            behind = last

    def _rows(self, query: Query, behind: int | None, limit: int) -> builtins.list[Row]:
        """Return rows of a list, one more than ``limit`` where there are more."""
        params, conditions = dict(query.params), [*query.conditions]
        if not all(_can_be_stored(value) for value in params.values() if isinstance(value, str)):
            return []
        if self._layout.condition:
            conditions.append(self._layout.condition)
        if behind is not None:
            params["after_seq"] = behind
            conditions.append(f"seq {'>' if query.oldest_first else '<'} :after_seq")
        kept = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "ASC" if query.oldest_first else "DESC"
        params["limit"] = limit + 1
        return self.database.rows(
            f"{query.select}{kept} ORDER BY seq {order} LIMIT :limit", self._params(params)
        )

    def _place_of(self, after: str) -> int:
        """Return where a list goes on behind a record; one that was deleted meanwhile keeps its place."""
        sql = f"SELECT seq FROM {self._source} WHERE id = :id"  # noqa: S608
        rows = self.database.rows(sql, self._params({"id": after})) if _can_be_stored(after) else []
        if not rows:
            error = self._unknown(self.database, after)
            raise NotFoundError(error.message, hint=error.hint, param="after")
        return int(rows[0]["seq"])

    def _last(self, row: Row, behind: int | None, *, oldest_first: bool) -> int | None:
        """Return the place of a part's last row; None where a damaged file makes lists go in circles."""
        place = row["seq"]
        if isinstance(place, int) and (
            behind is None or (place > behind if oldest_first else place < behind)
        ):
            return place
        _LOG.warning(
            "%s, table %s is damaged: its rows have no order", self.database.driver.label, self._layout.table
        )
        return None

    def _readable(self, rows: Iterable[Row]) -> Iterator[R]:
        """Yield the records of rows; a damaged one is named in a warning and hides none of the others."""
        for row in rows:
            try:
                yield self._record(row)
            except DamagedRowError as error:
                _LOG.warning("left out: %s", error)

    def _row_of(self, source: Database | Transaction, id: str) -> Row:
        rows = source.rows(self._by_id, self._params({"id": id})) if _can_be_stored(id) else []
        if rows:
            return rows[0]
        raise self._unknown(source, id)

    def _unknown(self, source: Database | Transaction, id: str) -> NotFoundError:
        shown = id[:160].encode("utf-8", "backslashreplace").decode()
        if self._layout.private:
            return NotFoundError(f"no {self._layout.noun} named {shown!r}", hint=self._layout.hint)
        known = source.rows(
            f"SELECT id FROM {self._source} ORDER BY seq DESC LIMIT 1000",  # noqa: S608
            self._params({}),
        )
        ids = (str(row["id"]) for row in known)
        return NotFoundError.of(self._layout.noun, shown, ids, hint=self._layout.hint)

    def _selecting(self, joined: Iterable[str] = ()) -> str:
        """Return the beginning of a query that reads rows with these columns of the joined table."""
        names = ", ".join(("seq", *self._columns, "document", *joined))
        source = " ".join(filter(None, (self._source, self._layout.joined)))
        return f"SELECT {names} FROM {source}"  # noqa: S608

    def _params(self, params: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return the parameters of a statement that names this project's rows."""
        return params if self.project is None else {**params, "project": self.project}

    def _row(self, record: R) -> dict[str, Value]:
        row = to_row(record, self._columns)
        if self._layout.identity is not None:
            row["id"] = self._layout.identity(record)
        return row

    def _record(self, row: Row) -> R:
        return read_row(
            self.database, self._layout.table, row, lambda row: from_row(self._layout.record, row)
        )
