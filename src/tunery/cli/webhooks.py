"""``tunery webhooks``: events on their way to the addresses that the server's settings name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tunery.cli.output import answer, answer_table, facts
from tunery.cli.parameters import After, Json, Limit
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from tunery.core.webhook import Delivery
    from tunery.store.workspace import Workspace

app = typer.Typer(no_args_is_help=True, help="Events sent to the addresses of 'tunery serve webhooks=…'.")
DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="The whd-… id.")]
_POLL_S = 0.2


@app.command("ls")
def list_deliveries(
    ctx: typer.Context,
    *,
    status: Annotated[
        Literal["pending", "delivered", "dead"] | None, typer.Option("--status", help="These only.")
    ] = None,
    limit: Limit = 50,
    after: After = None,
    as_json: Json = False,
) -> None:
    """List deliveries, newest first; dead ones were given up and can be sent again."""
    with open_workspace(ctx) as workspace:
        found = workspace.webhooks.page(where={"status": status}, after=after, limit=limit).items
    rows = [
        (d.id, d.endpoint, d.event.type, d.event.data.get("id"), d.status, str(d.attempts), d.problem)
        for d in found
    ]
    columns = ["delivery", "endpoint", "event", "of", "status", ">attempts", "problem"]
    answer_table(found, columns, rows, as_json=as_json)


@app.command("show")
def show_delivery(ctx: typer.Context, delivery_id: DeliveryId, *, as_json: Json = False) -> None:
    """Show one delivery with its event."""
    with open_workspace(ctx) as workspace:
        found = workspace.webhooks.get(delivery_id)
    answer(found, lambda: [_text(found)], as_json=as_json)


@app.command("resend")
def resend_delivery(ctx: typer.Context, delivery_id: DeliveryId, *, as_json: Json = False) -> None:
    """Send a delivery again; a running server does so at once."""
    with open_workspace(ctx) as workspace:
        found = workspace.webhooks.resend(delivery_id)
    answer(found, lambda: [f"{found.id} is sent to {found.endpoint} again"], as_json=as_json)


@app.command("test")
def send_test(
    ctx: typer.Context,
    *,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Wait so long for the outcome [s].")] = 10.0,
    as_json: Json = False,
) -> None:
    """Send an event of type webhook.test to every endpoint of the running server, and say what came of it."""
    from tunery.core.errors import ResourceError

    with open_workspace(ctx) as workspace:
        event = workspace.outbox.tell("webhook.test")
        deadline = time.monotonic() + wait_s
        while not _is_over(found := _of_event(workspace, event.id)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    if not found:
        raise ResourceError(
            f"no server has taken {event.id} within {wait_s:g} s",
            hint="tunery serve 'webhooks=[{url: https://…, secret_env: WEBHOOK_SECRET}]'",
        )
    lines = [f"{d.endpoint}: {d.problem or d.status}" for d in found]
    answer([d.model_dump(mode="json") for d in found], lambda: lines, as_json=as_json)


def _of_event(workspace: Workspace, event_id: str) -> list[Delivery]:
    return [d for d in workspace.webhooks.list(limit=200) if d.event.id == event_id]


def _is_over(found: list[Delivery]) -> bool:
    return bool(found) and all(d.status != "pending" or d.problem for d in found)


def _text(found: Delivery) -> str:
    return facts(
        [
            ("delivery", found.id),
            ("endpoint", found.endpoint),
            ("event", f"{found.event.type} {found.event.id}"),
            ("of", found.event.data.get("id")),
            ("status", found.status),
            ("attempts", str(found.attempts)),
            ("answer", found.answer),
            ("problem", found.problem),
            ("due", found.due_at if found.status == "pending" else None),
            ("ended", found.ended_at),
        ]
    )
