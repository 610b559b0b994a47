"""``tunery audit``: what was changed, by whom, and which keys were refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from tunery.cli.output import answer_table
from tunery.cli.parameters import After, Json, Limit, Project
from tunery.cli.session import open_workspace

app = typer.Typer(no_args_is_help=True, help="The audit log: changes, and keys that were refused.")


@app.command("ls")
def list_records(
    ctx: typer.Context,
    *,
    project: Project = None,
    since: Annotated[datetime | None, typer.Option("--since", help="Nothing older.")] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List audit records, newest first; it holds neither texts nor secrets."""
    with open_workspace(ctx, project) as workspace:
        # A time without a zone is the machine's own.
        found = workspace.audit.since(since and since.astimezone(), after=after, limit=limit).items
    rows = [
        (
            r.created_at,
            r.project,
            r.actor,
            r.action,
            r.object,
            r.outcome,
            f"{r.count:,}",
            r.address or r.request_id,
        )
        for r in found
    ]
    columns = ["at", "project", "by", "action", "on", "outcome", ">times", "from"]
    answer_table(found, columns, rows, as_json=as_json)
