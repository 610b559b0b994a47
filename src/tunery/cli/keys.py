"""``tunery keys``: who the server lets in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer

from tunery.cli.changes import changed
from tunery.cli.output import answer, answer_table
from tunery.cli.parameters import Json, Limit, Project
from tunery.cli.session import open_workspace
from tunery.core.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="API keys of the server: create, list, revoke.")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@app.command("create")
def create_key(  # noqa: PLR0913 - each is an option of its own
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is; shown in lists and records.")],
    *,
    project: Project = None,
    role: Annotated[
        Literal["read", "infer", "train", "admin"],
        typer.Option("--role", help="What it may do there, each role all that those before it may."),
    ] = "admin",
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="WHEN", help="When it stops working: 12h, 90d, 4w, or a date."),
    ] = None,
    weight: Annotated[
        float, typer.Option("--weight", min=0.001, help="Its share of a busy server, relative to others.")
    ] = 1.0,
    priority: Annotated[
        int, typer.Option("--priority", help="Lower ones are refused first where there are too many.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Make a key. It is printed this once; only its hash is stored."""
    with open_workspace(ctx, project) as workspace:
        created = workspace.keys.create(
            name,
            role,
            expires_at=_moment(expires, workspace.clock.now()) if expires is not None else None,
            weight=weight,
            priority=priority,
        )
        changed(ctx, created.key.id)
    key = created.key
    value = {**key.model_dump(mode="json", exclude={"sha256"}), "secret": created.secret}
    answer(value, lambda: [created.secret], as_json=as_json)


@app.command("ls")
def list_keys(
    ctx: typer.Context, *, project: Project = None, limit: Limit = 100, as_json: Json = False
) -> None:
    """List keys, revoked ones too, newest first; the secrets are stored nowhere."""
    with open_workspace(ctx, project) as workspace:
        found = workspace.keys.list(limit=limit)
    rows = [
        (k.id, k.name, k.project, k.role, f"{k.prefix}…", k.created_at, k.expires_at, k.revoked_at)
        for k in found
    ]
    objects = [k.model_dump(mode="json", exclude={"sha256"}) for k in found]
    columns = ["key", "name", "project", "role", "begins", "created", "expires", "revoked"]
    answer_table(objects, columns, rows, as_json=as_json)


@app.command("revoke")
def revoke_key(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Refuse a key from now on."""
    with open_workspace(ctx, project) as workspace:
        revoked = workspace.keys.revoke(key_id)
    value = revoked.model_dump(mode="json", exclude={"sha256"})
    answer(value, lambda: [f"{revoked.id} ({revoked.name}) is refused from now on"], as_json=as_json)


def _moment(text: str, now: datetime) -> datetime:
    """Return a time that is written as a span from now, or as a date in this machine's zone.

    >>> _moment("2d", datetime(2026, 3, 1, tzinfo=UTC)).isoformat()
    '2026-03-03T00:00:00+00:00'
    """
    if span := re.fullmatch(r"(\d{1,5})([hdw])", text.strip()):
        return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--expires is {text!r:.40}: no time", hint="write 12h, 90d, 4w or 2027-01-31", param="expires"
        ) from None
