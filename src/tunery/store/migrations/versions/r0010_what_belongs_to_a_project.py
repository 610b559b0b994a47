"""Files, batches, jobs, names, served calls, feedback and keys belong to a project; an audit log.

Reason: whoever had a key read and changed what came with any other key, and who promoted, deleted or made a
key was written nowhere, as were keys that were not let in. All that is there already belongs to
the project ``default``, as do its keys, which may do everything there as before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import records_table

revision = "0010"
down_revision = "0009"

_OWNED = ("files", "batches", "jobs", "requests", "feedback", "keys", "model_names")


def upgrade() -> None:
    """Add the columns and tables."""
    for table in _OWNED:
        project = sa.Column("project", sa.Text(), nullable=False, server_default="default")
        op.add_column(table, project)
    for table in ("files", "batches", "jobs", "requests", "feedback"):
        # A project's list is read from its newest row on.
        op.create_index(f"ix_{table}_project", table, ["project", "seq"])
    records_table("projects")
    op.create_table(
        "model_shares",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "project", name="pk_model_shares"),
        sa.ForeignKeyConstraint(["name"], ["model_names.name"], name="fk_model_shares_name"),
    )
    records_table(
        "audit",
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False, server_default="default"),
    )
    op.create_index("ix_audit_action", "audit", ["action", "seq"])
    op.create_index("ix_audit_project", "audit", ["project", "seq"])
