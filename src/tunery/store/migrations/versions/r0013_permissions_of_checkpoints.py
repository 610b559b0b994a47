"""Checkpoints that other projects may ask for.

Reason: who may ask for a checkpoint of another project's job must hold for every server of a home.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import records_table

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the table."""
    records_table(
        "checkpoint_permissions",
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("granted_to", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False, server_default="default"),
    )
    op.create_index("ix_checkpoint_permissions_checkpoint", "checkpoint_permissions", ["checkpoint"])
