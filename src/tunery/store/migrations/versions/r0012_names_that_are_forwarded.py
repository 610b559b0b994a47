"""Names that another endpoint answered before.

Reason: which endpoint, and which version of ours, answers such a name must hold for every server of a home,
and after a restart.
"""

from __future__ import annotations

import sqlalchemy as sa

from tunery.store.migrations.records import records_table

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table."""
    records_table(
        "forwarded_names", sa.Column("project", sa.Text(), nullable=False, server_default="default")
    )
