"""Texts of served calls in a table of their own, and calls that a client deleted.

Reason: a list of calls must not read prompts that it does not show; texts expire or are deleted while the
call still counts for its canary; and what a client deleted is gone from its lists but not from the counts.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from tunery.store.migrations.records import moment

revision = "0005"
down_revision = "0004"

_BATCH = 500


def upgrade() -> None:
    """Create the table and move what the documents hold into it."""
    op.add_column("requests", sa.Column("deleted_at", moment()))
    op.create_table(
        "request_texts",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("asked_at", moment(), nullable=False),
        sa.Column("prompt", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_request_texts"),
        sa.ForeignKeyConstraint(["request_id"], ["requests.id"], name="fk_request_texts_request_id"),
    )
    op.create_index("ix_request_texts_asked_at", "request_texts", ["asked_at"])
    connection = op.get_bind()
    read = sa.text(
        "SELECT seq, id, created_at, document FROM requests WHERE seq > :seq ORDER BY seq LIMIT :batch"
    )
    seq = 0
    while rows := connection.execute(read, {"seq": seq, "batch": _BATCH}).all():
        for row in rows:
            _move(connection, row)
        seq = rows[-1].seq


def _move(connection: sa.Connection, row: sa.Row[Any]) -> None:
    id, created_at, values = row.id, row.created_at, json.loads(row.document)
    prompt, answer = values.get("messages") or [], values.get("completion") or ""
    left = {**values, "messages": [], "completion": "", "text": "kept" if prompt else "not_asked"}
    connection.execute(
        sa.text("UPDATE requests SET document = :document WHERE id = :id"),
        {"id": id, "document": json.dumps(left, separators=(",", ":"))},
    )
    if prompt:
        connection.execute(
            sa.text(
                "INSERT INTO request_texts (request_id, asked_at, prompt, answer) "
                "VALUES (:id, :at, :prompt, :answer)"
            ),
            {"id": id, "at": created_at, "prompt": json.dumps(prompt), "answer": json.dumps(answer)},
        )
