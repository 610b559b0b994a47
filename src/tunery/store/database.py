"""The metadata database: SQLite in a file by default, PostgreSQL by URL, one set of statements for both.

Statements are plain SQL with ``:name`` parameters and go to the driver as they are. SQLAlchemy describes the
schema and moves it between versions, but is not loaded to answer: importing it takes longer than
``tunery registry ls`` may in all (docs/decisions has the numbers).
"""

from __future__ import annotations

import functools
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar

from tunery.core.errors import ConfigError, DamagedError, TuneryError, UnavailableError

Value: TypeAlias = str | int | float | None
Row: TypeAlias = dict[str, Any]
T = TypeVar("T")

_WRITES = re.compile(r"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(\w+)", re.IGNORECASE)
_IDLE_CONNECTIONS = 8
"""Connections kept open while nobody uses them [count]."""
_QUICK_S = 5.0
"""A call that failed sooner is tried once more even by those who do not wait [s]."""
_PAUSES_S = (0.05, 2.0)
"""Shortest and longest pause between two tries [s]."""


class Patience(NamedTuple):
    """How long calls wait for a database that is away, instead of failing."""

    seconds: float = 0.0
    """At most [s]; infinity waits until it is back."""
    give_up: Callable[[], bool] = lambda: False
    """Asked several times a second; True ends the wait."""


IMPATIENT = Patience()
"""Fails at once."""


class Driver(Protocol):
    """What differs between the two databases."""

    dialect: ClassVar[str]
    """``sqlite`` or ``postgresql``."""
    begin: ClassVar[str]
    """Opens a transaction that writes."""
    snapshot: ClassVar[str]
    """Opens a transaction whose reads all see the same moment."""
    lock: ClassVar[str | None]
    """Holds the lock ``:name`` until the transaction ends; None where ``begin`` admits one writer."""
    has_table: ClassVar[str]
    """Finds a row when there is a table ``:name``."""
    overwrite: ClassVar[str | None]
    """Takes what was deleted out of the files beside the database; None where the server does so itself."""
    hold: ClassVar[str]
    """Ends a query whose rows nobody else may change until the transaction ends."""
    errors: tuple[type[Exception], ...]
    """What the driver raises."""

    @property
    def label(self) -> str:
        """Name of the database for messages, without its password."""
        ...

    def hurried(self) -> Driver:
        """Return a driver of the same database that waits for nothing longer than a second or two."""
        ...

    def lies_in(self, folder: Path) -> bool:
        """Say whether the database is a file in a folder, and goes where that goes."""
        ...

    def connect(self) -> Any:
        """Return a new DB-API connection that begins and commits only when told to."""
        ...

    def statement(self, sql: str) -> str:
        """Return ``sql`` with its ``:name`` parameters as the driver writes them."""
        ...

    def pipeline(self, connection: Any) -> AbstractContextManager[object]:
        """Send statements without waiting for the answers before; the end of the block waits for all."""
        ...

    def is_broken(self, connection: Any) -> bool:
        """Say whether the server has hung up on this connection."""
        ...

    def is_undecodable(self, error: Exception) -> bool:
        """Say whether a row held bytes that are no text, which hides every other row of the query."""
        ...

    @contextmanager
    def leniently(self, connection: Any) -> Iterator[None]:
        """Read bytes that are no text as lone surrogates inside the block."""
        ...

    def mend(self, table: str, seq: object) -> str:
        """Return the command that takes a damaged row out of its table."""
        ...

    def explain(self, error: Exception) -> TuneryError | None:
        """Return the error a user can act on, or None where it is a mistake of ours."""
        ...


class Transaction:
    """Statements that happen together or not at all."""

    def __init__(self, driver: Driver, connection: Any) -> None:
        self._driver = driver
        self._connection = connection
        self.changed: set[str] = set()
        """Tables that were written to."""

    def run(self, sql: str, params: Mapping[str, Value] | None = None) -> int:
        """Execute one statement and return the number of rows it changed."""
        cursor = self._connection.execute(self._driver.statement(sql), params or {})
        if (table := _written_table(sql)) is not None:
            self.changed.add(table)
        return int(cursor.rowcount)

    def rows(self, sql: str, params: Mapping[str, Value] | None = None) -> list[Row]:
        """Execute one statement and return its rows, each from column to value."""
        try:
            return self._fetch(sql, params)
        except self._driver.errors as error:
            if not self._driver.is_undecodable(error):
                raise
        with self._driver.leniently(self._connection):
            return self._fetch(sql, params)

    def hold(self, sql: str, params: Mapping[str, Value] | None = None) -> list[Row]:
        """Return rows as :meth:`rows` does; until the transaction ends nobody else changes them."""
        return self.rows(sql + self._driver.hold, params)

    def later(self, sql: str, params: Mapping[str, Value] | None = None) -> Callable[[], list[Row]]:
        """Execute one statement; what is returned gives its rows, which a pipeline waits for only then."""
        cursor = self._connection.execute(self._driver.statement(sql), params or {})
        if (table := _written_table(sql)) is not None:  # RETURNING
            self.changed.add(table)

        # SQLite computes rows when they are asked for, and would see what later statements did.
        early = cursor.fetchall() if self._driver.dialect == "sqlite" else None

        def fetch() -> list[Row]:
            rows = cursor.fetchall() if early is None else early
            names = [column[0] for column in cursor.description]
            return [_Columns(zip(names, row, strict=True)) for row in rows]

        return fetch

    def _fetch(self, sql: str, params: Mapping[str, Value] | None) -> list[Row]:
        return self.later(sql, params)()


class _Columns(dict[str, Any]):
    """A row; a column that is not there was one until something overwrote the table's description."""

    def __missing__(self, column: str) -> NoReturn:
        raise DamagedError(
            f"a table of the database has no column {column!r}, which its schema says it has",
            hint="restore the database from a backup",
        )


class Database:
    """Connections to one database; may be used from any thread, and after a fork.

    Args:
        driver: Which database.
        patience: How long calls wait while it is away.
    """

    def __init__(self, driver: Driver, patience: Patience = IMPATIENT) -> None:
        self.driver = driver
        self.patience = patience
        self.fence: Callable[[Transaction], None] | None = None
        """Asked first in every transaction that writes; raises where the caller may not write any more."""
        self.changes: Counter[str] = Counter()
        """Transactions committed through this object that wrote to each table [count]; whoever remembers what
        was read sees from them that it may be another by now."""
        self._idle: list[Any] = []
        self._guard = threading.Lock()
        self._inside = threading.local()
        self._pid = os.getpid()

    def atomically(
        self, body: Callable[[Transaction], T], *, lock: str | None = None, pipelined: bool = False
    ) -> T:
        """Do ``body`` in one transaction, and once more where the database went away meanwhile.

        When it hung up during the commit nobody knows whether that arrived. So ``body`` must be one that may
        be done twice: it looks before it writes, and ids are made outside of it.

        Args:
            body: What to do.
            lock: As for :meth:`transaction`.
            pipelined: Have statements wait for each other's answers only where rows are asked for; a mistake
                in one is raised by a later one.

        Raises:
            ResourceError: The disk is full.
            UnavailableError: The database cannot be reached or stayed locked, for longer than the patience.
        """

        def once() -> T:
            with self._writing(lock, pipelined=pipelined) as transaction:
                return body(transaction)

        return self._until_it_answers(once)

    @contextmanager
    def transaction(self, lock: str | None = None) -> Iterator[Transaction]:
        """Open a transaction; it is committed at the end of the block and undone when the block raises.

        Args:
            lock: Name that only one transaction at a time may hold, in all processes and on all machines.

        Raises:
            ResourceError: The disk is full.
            UnavailableError: The database cannot be reached or stayed locked.
        """
        with self._writing(lock) as transaction:
            yield transaction

    def check_fence(self) -> None:
        """Raise what the fence raises, where one stands and the caller may not write any more."""
        if self.fence is not None:
            self.atomically(lambda transaction: None)

    @contextmanager
    def _writing(self, lock: str | None, *, pipelined: bool = False) -> Iterator[Transaction]:
        with self._open(self.driver.begin, pipelined=pipelined) as transaction:
            if lock is not None and self.driver.lock is not None:
                transaction.run(self.driver.lock, {"name": lock})
            if self.fence is not None:
                self.fence(transaction)
            yield transaction

    @contextmanager
    def snapshot(self) -> Iterator[Transaction]:
        """Open a transaction for reading: all its statements see the same moment."""
        with self._open(self.driver.snapshot) as transaction:
            yield transaction

    def rows(self, sql: str, params: Mapping[str, Value] | None = None) -> list[Row]:
        """Execute one statement that reads, and return its rows."""

        def once() -> list[Row]:
            with self.translated():
                connection, found = self._first_use(lambda c: Transaction(self.driver, c).rows(sql, params))
                self._give_back(connection)
                return found

        return self._until_it_answers(once)

    def overwrite_deleted(self) -> None:
        """Leave nothing of deleted rows in the database's files, as far as nobody is reading older states."""
        statement = self.driver.overwrite
        if statement is None:
            return
        with self.translated():
            connection, _ = self._first_use(lambda c: c.execute(statement).fetchall())
            self._give_back(connection)

    def hurried(self) -> Database:
        """Return the same database for those who would rather hear soon that it is away than wait for it.

        What they write may be lost when the database server itself dies, half a second of it at most.
        """
        return Database(self.driver.hurried())

    def close(self) -> None:
        """Close the idle connections; the database may be used again and then opens new ones."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _until_it_answers(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, trying again for as long as the patience lasts."""
        began, pause = time.monotonic(), _PAUSES_S[0]
        ends, tries = began + self.patience.seconds, 0
        while True:
            try:
                return call()
            except UnavailableError:
                tries += 1
                now = time.monotonic()
                once_more = tries == 1 and now - began < _QUICK_S
                if not once_more and (now >= ends or self.patience.give_up()):
                    raise
                # Drawn anew each time, or all who wait would come back at one moment.
                self._pause(random.uniform(pause / 2, pause))  # noqa: S311 - nothing to guess
                pause = min(2 * pause, _PAUSES_S[1])

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.patience.give_up():
            time.sleep(min(left, 0.2))

    @contextmanager
    def _open(self, begin: str, *, pipelined: bool = False) -> Iterator[Transaction]:
        if getattr(self._inside, "transaction", False):
            # It would wait for itself.
            raise RuntimeError("this thread has a transaction open already")
        with self.translated():
            # In a pipeline nobody waits to hear whether the server still knows this connection.
            connection = self._borrow() if pipelined else self._first_use(lambda c: c.execute(begin))[0]
            self._inside.transaction = True
            try:
                transaction = Transaction(self.driver, connection)
                with self.driver.pipeline(connection) if pipelined else nullcontext():
                    if pipelined:
                        connection.execute(begin)
                    yield transaction
                    connection.execute("COMMIT")
                self.changes.update(transaction.changed)
            except BaseException:
                if pipelined and self.driver.is_broken(connection):
                    self.close()  # a server that hung up on one connection has hung up on all
                # Closing undoes what was not committed, whatever state an error has left the connection in.
                connection.close()
                raise
            finally:
                self._inside.transaction = False
            self._give_back(connection)

    def _first_use(self, use: Callable[[Any], T]) -> tuple[Any, T]:
        """Return a connection with what ``use`` of it gave; a new one where the server had hung up on it."""
        connection = self._borrow()
        try:
            try:
                return connection, use(connection)
            except self.driver.errors:
                if not self.driver.is_broken(connection):
                    raise
                self.close()  # a server that hung up on one connection has hung up on all
                connection = self.driver.connect()
                return connection, use(connection)
        except BaseException:
            connection.close()
            raise

    def _borrow(self) -> Any:
        with self._guard:
            if self._pid != os.getpid():
                # A connection must not be used, nor closed, by the child of the process that opened it.
                self._pid, self._idle = os.getpid(), []
            if self._idle:
                return self._idle.pop()
        return self.driver.connect()

    def _give_back(self, connection: Any) -> None:
        with self._guard:
            if len(self._idle) < _IDLE_CONNECTIONS and self._pid == os.getpid():
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the driver raises inside the block into an error a user can act on, where it is one."""
        try:
            yield
        except self.driver.errors as error:
            explained = self.driver.explain(error)
            if explained is None:
                raise
            raise explained from error


@functools.lru_cache(maxsize=512)
def _written_table(sql: str) -> str | None:
    """Return the table that a statement writes to, None where it reads.

    >>> _written_table(" INSERT INTO keys (id) VALUES (:id)"), _written_table("SELECT 1 FROM keys")
    ('keys', None)
    """
    found = _WRITES.match(sql)
    return found[1] if found else None


def open_database(url: str, patience: Patience = IMPATIENT) -> Database:
    """Return the database of a URL: ``sqlite:///path/to/file.db`` or ``postgresql://user@host/name``.

    Args:
        url: Which one.
        patience: How long calls wait while it is away.

    Raises:
        ConfigError: The URL is of neither form.
        ResourceError: The database cannot be opened or reached.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in {"sqlite", "sqlite+pysqlite"} and rest.startswith("/") and len(rest) > 1:
        from tunery.store.sqlite import SqliteDriver

        return Database(SqliteDriver(Path(rest[1:])), patience)
    if separator and scheme in {"postgresql", "postgres", "postgresql+psycopg"}:
        from tunery.store.postgres import PostgresDriver

        return Database(PostgresDriver(f"postgresql://{rest}"), patience)
    # The rest of the URL may hold a password and is not repeated.
    raise ConfigError(
        f"no database of the form {scheme[:20]!r} is known; give a SQLite file or a PostgreSQL server",
        hint="TUNERY_DATABASE_URL=sqlite:////home/me/tunery.db or postgresql://user@host/name",
    )
