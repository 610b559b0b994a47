"""PostgreSQL through psycopg 3, for several machines on one registry and one queue."""

from __future__ import annotations

import functools
import re
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tunery.core.errors import ConfigError, ResourceError, TuneryError

try:
    import psycopg
    from psycopg.types.string import TextLoader
except ImportError:
    raise ConfigError(
        "a PostgreSQL URL is set, but its driver is not installed", hint="pip install 'tunery[postgres]'"
    ) from None

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")


class PostgresDriver:
    """Connects to one PostgreSQL database and words its errors."""

    dialect: ClassVar[str] = "postgresql"
    begin: ClassVar[str] = "BEGIN"
    snapshot: ClassVar[str] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    lock: ClassVar[str | None] = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"
    has_table: ClassVar[str] = "SELECT 1 WHERE to_regclass(:name) IS NOT NULL"
    errors: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def label(self) -> str:
        """Host and database; user, password and options are left out."""
        try:
            parts = urlsplit(self._url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return "postgresql://…"
        return f"postgresql://{parts.hostname or 'localhost'}{port}{parts.path}"

    def connect(self) -> Any:
        """Return a new connection; documents come back as the text they were stored as."""
        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=10)
        connection.adapters.register_loader("json", TextLoader)
        return connection

    def statement(self, sql: str) -> str:
        """Return ``sql`` with ``:name`` as psycopg's ``%(name)s``."""
        return _translate(sql)

    def is_broken(self, connection: Any) -> bool:
        """Say whether the server has hung up on this connection."""
        return bool(connection.closed)

    def explain(self, error: Exception) -> TuneryError | None:
        """Word a full disk, a server that does not answer, and a URL it does not understand."""
        if isinstance(error, psycopg.errors.DiskFull):
            return ResourceError(f"{self.label}: the disk is full; nothing of this step was stored")
        if isinstance(error, psycopg.OperationalError):
            return ResourceError(
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
