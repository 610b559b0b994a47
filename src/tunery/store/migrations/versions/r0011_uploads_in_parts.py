"""Uploads whose parts come one by one.

Reason: a file that is larger than one request may be comes in parts; which upload waits for some, and whose
it is, must be known after a restart.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import records_table

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the table."""
    records_table(
        "uploads",
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False, server_default="default"),
    )
    op.create_index("ix_uploads_status", "uploads", ["status"])
