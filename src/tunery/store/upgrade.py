"""Brings a database to the schema this code knows, once, whoever opens it first."""

from __future__ import annotations

from pathlib import Path

from tunery.core.errors import ConfigError, ConflictError
from tunery.store.database import Database

HEAD = "0013"
"""Number of the newest step under ``migrations/versions``."""

_LOCK = "tunery schema"


def revision(database: Database) -> str | None:
    """Return the number of the step a database is at; None where it has no tables yet."""
    if not database.rows(database.driver.has_table, {"name": "alembic_version"}):
        return None
    rows = database.rows("SELECT version_num FROM alembic_version")
    return str(rows[0]["version_num"]) if rows else None


def ensure_current(database: Database) -> None:
    """Upgrade a database that is behind; costs two small reads when it is not.

    Raises:
        ConflictError: The database was written by a newer Tunery.
    """
    found = revision(database)
    if found == HEAD:
        return
    _refuse_newer(database, found)
    upgrade(database)


def upgrade(database: Database, to: str = HEAD) -> None:
    """Run the missing steps up to ``to`` in one transaction, alone: others wait and then find them done.

    Raises:
        ConflictError: The database was written by a newer Tunery.
        ConfigError: What runs them is not installed.
    """
    # Loaded only when there is work to do: these take most of a second to import.
    try:
        from alembic import command
        from alembic.config import Config
        from sqlalchemy import create_engine, exc, pool, text
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{database.driver.label} has to be brought to schema {to}, and {error.name} is not installed",
            hint="pip install alembic sqlalchemy; or open it once with a whole install",
        ) from None

    config = Config()
    # Alembic fills in % itself.
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "newline")
    driver = database.driver
    scheme = "postgresql+psycopg" if driver.dialect == "postgresql" else driver.dialect
    engine = create_engine(f"{scheme}://", creator=driver.connect, poolclass=pool.NullPool)
    try:
        with database.translated(), engine.connect() as connection:
            connection.exec_driver_sql(driver.begin)
            if driver.lock is not None:
                connection.execute(text(driver.lock), {"name": _LOCK})
            found = None
            if connection.execute(text(driver.has_table), {"name": "alembic_version"}).first():
                found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            _refuse_newer(database, found)
            config.attributes["connection"] = connection
            command.upgrade(config, to)
            connection.commit()
    except exc.DBAPIError as error:
        # SQLAlchemy wraps what the driver raises, so that translated() does not know it.
        raise (driver.explain(error.orig) if isinstance(error.orig, Exception) else None) or error from error


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is not None and found > HEAD:
        raise ConflictError(
            f"{database.driver.label} was written by a newer Tunery (schema {found}; this one knows {HEAD})",
            hint="pip install --upgrade tunery",
        )
