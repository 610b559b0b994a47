"""The job queue with its log, uploaded files, and API keys.

Reason: a server must find its queue again after being killed. A job's lease and device are columns because
claiming decides by them; a key is found by the first characters it is shown with.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import moment, records_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    records_table(
        "jobs",
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("lease_until", moment()),
    )
    op.create_index("ix_jobs_status", "jobs", ["status"])
    for name in ("job_events", "job_checkpoints"):
        records_table(
            name,
            sa.Column("job_id", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=f"fk_{name}_job_id"),
        )
        op.create_index(f"ix_{name}_job_id", name, ["job_id"])
    records_table("files", sa.Column("purpose", sa.Text(), nullable=False))
    records_table(
        "keys",
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("revoked_at", moment()),
    )
    op.create_index("ix_keys_prefix", "keys", ["prefix"])
