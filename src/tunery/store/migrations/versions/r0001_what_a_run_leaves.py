"""Records of what a recipe's run makes, and the registry of model versions with its aliases.

Reason: the first schema. Artifacts' records are found by id and listed newest first; aliases point at
versions that exist and every move of one is kept.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import moment, records_table, seq

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    records_table("datasets", sa.Column("name", sa.Text(), nullable=False))
    records_table("adapters", sa.Column("dataset_version", sa.Text(), nullable=False))
    records_table("evaluations", sa.Column("subject", sa.Text(), nullable=False))
    records_table("gates", sa.Column("passed", sa.Boolean(), nullable=False))
    records_table(
        "runs",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
    )
    op.create_table(
        "model_names",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_model_names"),
    )
    records_table(
        "model_versions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["model_names.name"], name="fk_model_versions_name"),
        sa.UniqueConstraint("name", "version", name="uq_model_versions_name_version"),
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            name="fk_aliases_name_version",
        ),
    )
    op.create_table(
        "alias_moves",
        seq(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("at", moment(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_alias_moves"),
        sa.ForeignKeyConstraint(["name"], ["model_names.name"], name="fk_alias_moves_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alias_moves_name", "alias_moves", ["name"])
