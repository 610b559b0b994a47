"""Limits that operators set, how far they are used, and what was used by whom on which day.

Reason: a key was all that bounded its owner; a limit must survive a restart, be shared by gateways, and what
is billed must not vanish with the records of calls that are purged.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import records_table

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the tables."""
    records_table("limit_rules")
    op.create_table(
        "limit_accounts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("month", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_limit_accounts"),
    )
    op.create_table(
        "limit_reservations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.Double(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_limit_reservations"),
    )
    op.create_index("ix_limit_reservations_ends_at", "limit_reservations", ["ends_at"])
    op.create_table(
        "usage",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("day", "project", "key_id", "model", name="pk_usage"),
    )
