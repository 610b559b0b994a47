"""A model name has an owner: the API key whose job made it first.

Reason: any key could register a version under another key's model name, with a system prompt and a gate of
its own, and have it promoted. Names that are there already stay the operator's.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("model_names", sa.Column("owner", sa.Text(), nullable=True))
