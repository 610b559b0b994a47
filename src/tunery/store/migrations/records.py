"""Tables of records as steps 0001 to 0003 make them.

A step describes the past: this repeats what ``schema.py`` says today instead of importing it, and is not
changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def seq() -> sa.Column[int]:
    """Return the column that counts rows."""
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True)


def moment() -> sa.TIMESTAMP:
    """Return the type of a time."""
    return sa.TIMESTAMP(timezone=True).with_variant(sa.Text(), "sqlite")


def records_table(name: str, *more: sa.schema.SchemaItem) -> None:
    """Create a table of records with these columns and constraints beside those that all have."""
    op.create_table(
        name,
        seq(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        *more,
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=f"pk_{name}"),
        sa.UniqueConstraint("id", name=f"uq_{name}_id"),
        sqlite_autoincrement=True,
    )
