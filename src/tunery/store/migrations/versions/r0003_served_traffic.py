"""Rollouts, the requests they moved, and what users said of the answers.

Reason: a canary is judged by what its requests did, so status, format and latency are columns with an index
for one arm's tallies; a second running rollout of the same name is refused by the database itself.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import records_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables."""
    records_table(
        "rollouts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
    )
    running = sa.text("status = 'running'")
    op.create_index(
        "uq_rollouts_running",
        "rollouts",
        ["name"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )
    records_table(
        "requests",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text()),
        sa.Column("arm", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("format_valid", sa.Boolean()),
        sa.Column("latency_ms", sa.Double(), nullable=False),
    )
    op.create_index("ix_requests_model", "requests", ["model"])
    op.create_index(
        "ix_requests_rollout", "requests", ["rollout_id", "arm", "status", "latency_ms", "format_valid"]
    )
    records_table(
        "feedback",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rating", sa.Integer()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_feedback_request_id"),
    )
    op.create_index("ix_feedback_request_id", "feedback", ["request_id"])
