"""Events for webhooks, and their deliveries.

Reason: word of a job's end must not be lost with the process that ended it, nor with the server that was to
send it. An event is written in the transaction that makes it happen; a server makes deliveries of it, which
are found by when they are due.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import moment, records_table

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the tables."""
    records_table("webhook_events", sa.Column("type", sa.Text(), nullable=False))
    records_table(
        "webhook_deliveries",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("due_at", moment(), nullable=False),
    )
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["endpoint", "status", "due_at"])
