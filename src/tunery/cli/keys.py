"""``tunery keys``: who the server lets in."""

from __future__ import annotations

from typing import Annotated

import typer

from tunery.cli.output import answer, answer_table
from tunery.cli.parameters import Json, Limit
from tunery.cli.session import open_workspace

app = typer.Typer(no_args_is_help=True, help="API keys of the server: create, list, revoke.")


@app.command("create")
def create_key(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; shown in lists and records.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a key. It is printed this once; only its hash is stored."""
    with open_workspace(ctx) as workspace:
        created = workspace.keys.create(name)
    value = {"id": created.key.id, "name": created.key.name, "secret": created.secret}
    answer(value, lambda: [created.secret], as_json=as_json)


@app.command("ls")
def list_keys(ctx: typer.Context, *, limit: Limit = 100, as_json: Json = False) -> None:
    """List keys, revoked ones too, newest first; the secrets are stored nowhere."""
    with open_workspace(ctx) as workspace:
        found = workspace.keys.list(limit=limit)
    rows = [(k.id, k.name, f"{k.prefix}…", k.created_at, k.revoked_at) for k in found]
    objects = [k.model_dump(mode="json", exclude={"sha256"}) for k in found]
    answer_table(objects, ["key", "name", "begins", "created", "revoked"], rows, as_json=as_json)


@app.command("revoke")
def revoke_key(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: Json = False
) -> None:
    """Refuse a key from now on."""
    with open_workspace(ctx) as workspace:
        revoked = workspace.keys.revoke(key_id)
    value = revoked.model_dump(mode="json", exclude={"sha256"})
    answer(value, lambda: [f"{revoked.id} ({revoked.name}) is refused from now on"], as_json=as_json)
