"""PostgreSQL through psycopg 3, for several machines on one registry and one queue.

The machines share the home too, as a folder on a shared disk: a database whose files lie in another home is
refused at the start (:mod:`tunery.store.home`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tunery.core.errors import ConfigError, ResourceError, TuneryError, UnavailableError

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.types.string import TextLoader
except ImportError:
    raise ConfigError(
        "a PostgreSQL URL is set, but its driver is not installed", hint="pip install 'tunery[postgres]'"
    ) from None

_CONNECTION: Mapping[str, Any] = {
    "connect_timeout": 10,
    # A network that swallows packets would else hold a call for minutes.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What a URL may say otherwise."""
_HURRY: Mapping[str, Any] = {"connect_timeout": 2, "tcp_user_timeout": 2_000}
_IDLE_S = 30
"""A process that is stopped inside a transaction gives its locks back after this time [s]."""

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")


class PostgresDriver:
    """Connects to one PostgreSQL database and words its errors."""

    dialect: ClassVar[str] = "postgresql"
    begin: ClassVar[str] = "BEGIN"
    snapshot: ClassVar[str] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    lock: ClassVar[str | None] = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"
    has_table: ClassVar[str] = "SELECT 1 WHERE to_regclass(:name) IS NOT NULL"
    overwrite: ClassVar[str | None] = None  # autovacuum does
    hold: ClassVar[str] = " FOR SHARE"
    errors: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(self, url: str, hurry: Mapping[str, Any] | None = None) -> None:
        self._url = url
        self._hurry = hurry or {}

    def hurried(self) -> PostgresDriver:
        """Return a driver that waits two seconds at most, and for no disk."""
        return PostgresDriver(self._url, _HURRY)

    @property
    def label(self) -> str:
        """Host and database; user, password and options are left out."""
        try:
            parts = urlsplit(self._url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return "postgresql://…"
        return f"postgresql://{parts.hostname or 'localhost'}{port}{parts.path}"

    def lies_in(self, folder: Path) -> bool:
        """Say no: it is a server."""
        return False

    def connect(self) -> Any:
        """Return a new connection; documents come back as the text they were stored as."""
        said: dict[str, Any] = {name: v for name, v in conninfo_to_dict(self._url).items() if v is not None}
        connection = psycopg.connect(autocommit=True, **{**_CONNECTION, **said, **self._hurry})
        # Not among the options of the URL, which connection poolers refuse.
        connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_S}s'")
        if self._hurry:
            connection.execute("SET statement_timeout = '2s'")
            connection.execute("SET synchronous_commit = off")
        connection.adapters.register_loader("json", TextLoader)
        return connection

    def statement(self, sql: str) -> str:
        """Return ``sql`` with ``:name`` as psycopg's ``%(name)s``."""
        return _translate(sql)

    def pipeline(self, connection: Any) -> AbstractContextManager[object]:
        """Send statements without waiting for the answers before."""
        pipeline: AbstractContextManager[object] = connection.pipeline()
        return pipeline

    def is_broken(self, connection: Any) -> bool:
        """Say whether the server has hung up on this connection."""
        return bool(connection.closed)

    def is_undecodable(self, error: Exception) -> bool:
        """Say no: the server checks texts when they come."""
        return False

    @contextmanager
    def leniently(self, connection: Any) -> Iterator[None]:
        """Read as always."""
        yield

    def mend(self, table: str, seq: object) -> str:
        """Return the command that takes a damaged row out of its table."""
        return f'psql -c "DELETE FROM {table} WHERE seq = {seq}"'  # noqa: S608 - to be read, not run

    def explain(self, error: Exception) -> TuneryError | None:
        """Word a full disk, a server that does not answer, and a URL it does not understand."""
        if isinstance(error, psycopg.errors.DiskFull):
            return ResourceError(f"{self.label}: the disk is full; nothing of this step was stored")
        lost = isinstance(error, psycopg.InterfaceError) and "closed" in str(error)
        lost = lost or isinstance(error, psycopg.errors.QueryCanceled)  # by statement_timeout
        lost = lost or isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout)
        if lost or isinstance(error, psycopg.OperationalError):
            return UnavailableError(
                f"{self.label} does not answer: {' '.join(str(error).split())}",
                hint="check TUNERY_DATABASE_URL, and that the server runs and lets you in",
            )
        if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
            # libpq repeats the part it did not understand, which may be the password.
            return ConfigError(
                "TUNERY_DATABASE_URL is not understood", hint="postgresql://user:password@host:5432/name"
            )
        return None


@functools.lru_cache(maxsize=512)
def _translate(sql: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", sql)
