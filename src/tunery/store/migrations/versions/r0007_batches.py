"""Batches, and the answers to their lines until these lie in files.

Reason: a batch of which a server died in the middle goes on where it was; an answer that is stored is never
computed again. A line has one answer, whoever comes second.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import records_table

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the tables."""
    records_table("batches", sa.Column("status", sa.Text(), nullable=False))
    op.create_index("ix_batches_status", "batches", ["status"])
    op.create_table(
        "batch_answers",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "line", name="pk_batch_answers"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_batch_answers_batch_id"),
    )
