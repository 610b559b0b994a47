"""SQLite: one file, readers beside a writer (WAL), writers one after another."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from tunery.core.errors import ConfigError, ResourceError, TuneryError, UnavailableError

_BUSY_S = 30.0
"""How long a writer waits for the one before it [s]."""

_BROKEN_SCHEMA = ("malformed", "no such ", "unsupported file format", "foreign key mismatch", "table ")
"""How messages begin when the list of tables is damaged; SQLite gives them no code of their own."""
_UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR")


class SqliteDriver:
    """Opens one SQLite file and words its errors."""

    dialect: ClassVar[str] = "sqlite"
    # Taking the write lock at once: a reader that becomes a writer later can be refused without waiting.
    begin: ClassVar[str] = "BEGIN IMMEDIATE"
    snapshot: ClassVar[str] = "BEGIN"
    lock: ClassVar[str | None] = None
    has_table: ClassVar[str] = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"
    hold: ClassVar[str] = ""  # there is one writer at a time
    # Older states of overwritten pages lie in the log until it is begun anew.
    overwrite: ClassVar[str | None] = "PRAGMA wal_checkpoint(TRUNCATE)"
    # A message that quotes a damaged file is no UTF-8 itself.
    errors: tuple[type[Exception], ...] = (sqlite3.Error, UnicodeDecodeError)

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def label(self) -> str:
        """Path of the file."""
        return str(self._path)

    def hurried(self) -> SqliteDriver:
        """Return itself: a file is there or not."""
        return self

    def lies_in(self, folder: Path) -> bool:
        """Say whether the file lies in a folder."""
        return self._path.absolute().is_relative_to(folder)

    def connect(self) -> sqlite3.Connection:
        """Return a new connection; the file is made where it is missing."""
        # The pool hands a connection to one thread at a time.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._become_wal(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            # A killed process loses nothing; a power cut may lose the last transactions, whole ones.
            connection.execute("PRAGMA synchronous = NORMAL")
            # What a person asked to delete is overwritten, not only taken off a list.
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def statement(self, sql: str) -> str:
        """Return ``sql``: SQLite writes parameters as we do."""
        return sql

    def pipeline(self, connection: sqlite3.Connection) -> AbstractContextManager[object]:
        """Wait as always: no statement goes far."""
        return nullcontext()

    def is_broken(self, connection: sqlite3.Connection) -> bool:
        """Say no: there is nobody who could hang up."""
        return False

    def is_undecodable(self, error: Exception) -> bool:
        """Say whether a text is not UTF-8."""
        return "Could not decode to UTF-8" in str(error)

    @contextmanager
    def leniently(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Read bytes that are no UTF-8 as lone surrogates inside the block."""
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            yield
        finally:
            connection.text_factory = str

    def mend(self, table: str, seq: object) -> str:
        """Return the command that takes a damaged row out of its table."""
        statements = f"PRAGMA foreign_keys=OFF; DELETE FROM {table} WHERE seq = {seq}"  # noqa: S608 - to be read
        return f'sqlite3 {shlex.quote(self.label)} "{statements}"'

    def explain(self, error: Exception) -> TuneryError | None:
        """Word a full disk, a file that cannot be written, one that is no database, and a lasting lock."""
        name = getattr(error, "sqlite_errorname", None) or ""
        # Where WAL's index cannot grow on a full disk, SQLite calls it an I/O error.
        if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and self._disk_is_full()):
            return ResourceError(
                f"{self.label}: the disk is full; nothing of this step was stored",
                hint=f"df -h {self._path.parent}",
            )
        if name.startswith(_UNWRITABLE):
            return ResourceError(
                f"{self.label} cannot be written: {error}",
                hint="set TUNERY_HOME to a folder you can write, as in: export TUNERY_HOME=$HOME/tunery",
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return UnavailableError(
                f"{self.label} was locked by another process for {_BUSY_S:.0f} s",
                hint=f"fuser {self.label} shows which process holds it",
            )
        damaged = name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT"))
        if damaged or str(error).startswith(_BROKEN_SCHEMA) or self._is_damaged():
            return ConfigError(
                f"{self.label} is not a readable SQLite database: {error}",
                hint="restore the file from a backup, or save what can be read with "
                f"'sqlite3 {shlex.quote(self.label)} .recover | sqlite3 new.db', or set TUNERY_HOME to "
                "another folder",
            )
        return None

    def _is_damaged(self) -> bool:
        """Check the whole file; asked after errors that damage explains, and a mistake of ours does too."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True)) as c:
                found = c.execute("PRAGMA integrity_check(1)").fetchone()
        except self.errors:
            return True
        return bool(found != ("ok",))

    def _disk_is_full(self) -> bool:
        try:
            return shutil.disk_usage(self._path.parent).free < 1 << 20
        except OSError:
            return False

    def _become_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to WAL once; the switch does not wait for others by itself as statements do."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
                if mode != "wal":
                    connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                busy = (getattr(error, "sqlite_errorname", None) or "").startswith(
                    ("SQLITE_BUSY", "SQLITE_LOCKED")
                )
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
