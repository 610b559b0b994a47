"""The job queue with its log, uploaded files, and API keys.

Reason: a server must find its queue again after being killed. A job's lease and device are columns because
claiming decides by them; a key is found by the first characters it is shown with.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    _records(
        "jobs",
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("lease_until", _moment()),
    )
    op.create_index("ix_jobs_status", "jobs", ["status"])
    for name in ("job_events", "job_checkpoints"):
        _records(
            name,
            sa.Column("job_id", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=f"fk_{name}_job_id"),
        )
        op.create_index(f"ix_{name}_job_id", name, ["job_id"])
    _records("files", sa.Column("purpose", sa.Text(), nullable=False))
    _records(
        "keys",
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("revoked_at", _moment()),
    )
    op.create_index("ix_keys_prefix", "keys", ["prefix"])


def _moment() -> sa.TIMESTAMP:
    return sa.TIMESTAMP(timezone=True).with_variant(sa.Text(), "sqlite")


def _records(name: str, *more: sa.schema.SchemaItem) -> None:
    op.create_table(
        name,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", _moment(), nullable=False),
        *more,
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=f"pk_{name}"),
        sa.UniqueConstraint("id", name=f"uq_{name}_id"),
        sqlite_autoincrement=True,
    )
