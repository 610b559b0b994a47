"""``tunery serve``: the OpenAI-shaped server over this workspace."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tunery.cli.output import answer
from tunery.cli.parameters import Json
from tunery.cli.session import open_workspace

if TYPE_CHECKING:
    from tunery.api.server import ConnectionDetails

_STOPPED = "the server has ended; jobs that were queued or running go on when it is started again"


def serve(
    ctx: typer.Context,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings of the server, such as max_in_flight=64."),
    ] = None,
    *,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port to listen on; 0 takes a free one [8000].")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Base model, as a recipe names it.")] = None,
    as_json: Json = False,
) -> None:
    """Serve all versions to OpenAI's clients.

    Every registered version and the base answer; queued jobs are run. The first start makes an API key and
    shows it once, on stderr. Ctrl-C ends the server.
    """
    from tunery.api.config import ServerSettings
    from tunery.api.server import serve as serve_workspace
    from tunery.cli.progress import terminal_progress
    from tunery.core.config import apply_overrides, parse_settings

    given = {"host": host, "port": port, "base": base}
    values = apply_overrides({k: v for k, v in given.items() if v is not None}, overrides or ())
    settings = parse_settings(ServerSettings, values, where="serve")

    def announce(details: ConnectionDetails) -> None:
        if details.secret:
            sys.stderr.write(f"API key, shown this once: {details.secret}\n")
            sys.stderr.flush()
        answer(
            {"url": details.url, "base": details.base},
            lambda: [f"serving {details.base} and every registered version at {details.url}"],
            as_json=as_json,
        )

    with open_workspace(ctx) as workspace:
        try:
            serve_workspace(workspace, settings, announce=announce, progress=terminal_progress())
        except KeyboardInterrupt as stop:
            stop.args = (_STOPPED,)
            raise
