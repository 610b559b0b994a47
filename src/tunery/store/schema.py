"""The tables as they stand today; the migrations build them, a test holds the two equal.

Columns are what is searched or sorted by; the rest of a record lies in its ``document``. ``seq`` counts rows
in the order they were added, so that 'newest first' holds within one millisecond too. Imported by migrations
and tests only: importing SQLAlchemy takes longer than answering ``tunery registry ls`` may.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def seq() -> Column[int]:
    """Return the column that counts rows in the order they came; SQLite numbers only INTEGER keys."""
    # A number is never given twice (sqlite_autoincrement), or 'after this row' could skip rows.
    return Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


def moment() -> TIMESTAMP:
    """Return the type of a time in UTC: SQLite has none, its ISO text of one width sorts the same way."""
    return TIMESTAMP(timezone=True).with_variant(Text(), "sqlite")


def document() -> Column[object]:
    """Return the column of everything that is not searched by.

    JSON and not JSONB on PostgreSQL: text is kept as it came, and JSONB refuses the character U+0000.
    """
    return Column("document", JSON(), nullable=False)


def _project() -> Column[str]:
    """Return the column that says whose a row is; what named no project is the default one's."""
    return Column("project", Text(), nullable=False, server_default="default")


def _records(name: str, *columns: SchemaItem) -> Table:
    return Table(
        name,
        METADATA,
        seq(),
        Column("id", Text(), nullable=False, unique=True),
        Column("created_at", moment(), nullable=False),
        *columns,
        document(),
        sqlite_autoincrement=True,
    )


_records("projects")
_records(
    "audit",
    Column("action", Text(), nullable=False),
    _project(),
    Index("ix_audit_action", "action", "seq"),
    Index("ix_audit_project", "project", "seq"),
)
_records("datasets", Column("name", Text(), nullable=False))
_records("adapters", Column("dataset_version", Text(), nullable=False))
_records("evaluations", Column("subject", Text(), nullable=False))
_records("gates", Column("passed", Boolean(), nullable=False))
_records("runs", Column("name", Text(), nullable=False), Column("status", Text(), nullable=False))

Table(
    "model_names",
    METADATA,
    Column("name", Text(), primary_key=True),
    # Counts up for ever: the number of a deleted version is never given to another.
    Column("last_version", Integer(), nullable=False),
    # The API key that may make versions of it by jobs; none for the operator's own.
    Column("owner", Text()),
    _project(),
)
Table(
    "model_shares",
    METADATA,
    Column("name", Text(), ForeignKey("model_names.name"), primary_key=True),
    Column("project", Text(), primary_key=True),
)
_records(
    "model_versions",
    Column("name", Text(), ForeignKey("model_names.name"), nullable=False),
    Column("version", Integer(), nullable=False),
    UniqueConstraint("name", "version"),
)
Table(
    "aliases",
    METADATA,
    Column("name", Text(), primary_key=True),
    Column("alias", Text(), primary_key=True),
    Column("version", Integer(), nullable=False),
    ForeignKeyConstraint(["name", "version"], ["model_versions.name", "model_versions.version"]),
)
Table(
    "alias_moves",
    METADATA,
    seq(),
    Column("name", Text(), ForeignKey("model_names.name"), nullable=False, index=True),
    Column("alias", Text(), nullable=False),
    Column("at", moment(), nullable=False),
    document(),
    sqlite_autoincrement=True,
)

# What the database says of itself, such as the home that its files lie in.
Table("facts", METADATA, Column("name", Text(), primary_key=True), Column("value", Text(), nullable=False))

_records(
    "jobs",
    Column("status", Text(), nullable=False, index=True),
    Column("device", Text(), nullable=False),
    Column("worker", Text()),
    Column("lease_until", moment()),
    _project(),
    Index("ix_jobs_project", "project", "seq"),
)
_records(
    "job_events",
    Column("job_id", Text(), ForeignKey("jobs.id"), nullable=False, index=True),
)
_records(
    "job_checkpoints",
    Column("job_id", Text(), ForeignKey("jobs.id"), nullable=False, index=True),
)
_records(
    "files",
    Column("purpose", Text(), nullable=False),
    _project(),
    Index("ix_files_project", "project", "seq"),
)
_records("uploads", Column("status", Text(), nullable=False, index=True), _project())
_records("forwarded_names", _project())
_records(
    "checkpoint_permissions",
    Column("checkpoint", Text(), nullable=False, index=True),
    Column("granted_to", Text(), nullable=False),
    _project(),
)
_records(
    "batches",
    Column("status", Text(), nullable=False, index=True),
    _project(),
    Index("ix_batches_project", "project", "seq"),
)
Table(
    "batch_answers",
    METADATA,
    Column("batch_id", Text(), ForeignKey("batches.id"), primary_key=True),
    Column("line", Integer(), primary_key=True),
    Column("ok", Boolean(), nullable=False),
    Column("prompt_tokens", Integer(), nullable=False),
    Column("completion_tokens", Integer(), nullable=False),
    Column("content", JSON(), nullable=False),
)
_records(
    "keys",
    Column("prefix", Text(), nullable=False, index=True),
    Column("revoked_at", moment()),
    _project(),
)

_records(
    "rollouts",
    Column("name", Text(), nullable=False),
    Column("status", Text(), nullable=False),
    # Two rollouts at once for one name would each judge traffic that the other moved.
    Index(
        "uq_rollouts_running",
        "name",
        unique=True,
        sqlite_where=text("status = 'running'"),
        postgresql_where=text("status = 'running'"),
    ),
)
_records(
    "requests",
    Column("model", Text(), nullable=False, index=True),
    Column("rollout_id", Text()),
    Column("arm", Text()),
    Column("status", Text(), nullable=False),
    Column("format_valid", Boolean()),
    Column("latency_ms", Double(), nullable=False),
    Column("deleted_at", moment()),
    _project(),
    Index("ix_requests_project", "project", "seq"),
    # Tallies of one arm, and its latencies in order, are read from the index alone.
    Index("ix_requests_rollout", "rollout_id", "arm", "status", "latency_ms", "format_valid"),
)
_records("webhook_events", Column("type", Text(), nullable=False))
_records(
    "webhook_deliveries",
    Column("endpoint", Text(), nullable=False),
    Column("status", Text(), nullable=False),
    Column("due_at", moment(), nullable=False),
    Index("ix_webhook_deliveries_due", "endpoint", "status", "due_at"),
)
Table(
    "request_texts",
    METADATA,
    Column("request_id", Text(), ForeignKey("requests.id"), primary_key=True),
    Column("asked_at", moment(), nullable=False, index=True),
    Column("prompt", JSON(), nullable=False),
    Column("answer", JSON(), nullable=False),
)
_records(
    "feedback",
    Column("request_id", Text(), ForeignKey("requests.id"), nullable=False, index=True),
    Column("kind", Text(), nullable=False),
    Column("rating", Integer()),
    Column("status", Text(), nullable=False),
    _project(),
    Index("ix_feedback_project", "project", "seq"),
)

# One row a scope; its id is the scope's text.
_records("limit_rules")
Table(
    "limit_accounts",
    METADATA,
    Column("name", Text(), primary_key=True),
    # The last month that it counted in, by which those are found that count nothing any more.
    Column("month", Integer(), nullable=False),
    Column("state", Text(), nullable=False),
)
Table(
    "limit_reservations",
    METADATA,
    Column("id", Text(), primary_key=True),
    # End of its lease; of one that was settled, until when that is remembered. Seconds since 1970.
    Column("ends_at", Double(), nullable=False, index=True),
    # None once it was settled.
    Column("state", Text()),
)
Table(
    "usage",
    METADATA,
    # As ISO text, the same in both databases.
    Column("day", Text(), primary_key=True),
    Column("project", Text(), primary_key=True),
    Column("key_id", Text(), primary_key=True),
    Column("model", Text(), primary_key=True),
    Column("requests", BigInteger(), nullable=False),
    Column("prompt_tokens", BigInteger(), nullable=False),
    Column("completion_tokens", BigInteger(), nullable=False),
    Column("usd", Double(), nullable=False),
)
