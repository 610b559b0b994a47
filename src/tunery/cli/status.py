"""``tunery status``: how a running server stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunery.cli.output import answer, table
from tunery.cli.parameters import Json
from tunery.core.errors import ResourceError

if TYPE_CHECKING:
    from tunery.cli.output import Part

_WAIT_S = 5.0


def status(
    url: Annotated[
        str, typer.Argument(metavar="[URL]", help="Address of the server, without /v1.")
    ] = "http://127.0.0.1:8000",
    *,
    as_json: Json = False,
) -> None:
    """Show a running server's engines, queues and circuits, its database and its request log."""
    import httpx2

    try:
        told = httpx2.get(f"{url.rstrip('/').removesuffix('/v1')}/health", timeout=_WAIT_S, trust_env=False)
        found: dict[str, Any] = told.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise ResourceError(
            f"no Tunery server answers at {url}: {error}", hint="tunery serve, or tunery status URL"
        ) from None
    if told.status_code != 200:
        raise ResourceError(f"{url} cannot answer requests now: {found.get('error', {}).get('message')}")
    answer(found, lambda: _parts(found), as_json=as_json)


def _parts(found: Mapping[str, Any]) -> Iterator[Part]:
    log = found["request_log"]
    yield f"{found['status']}: {found['requests_in_flight']} requests in flight, base {found['base']}"
    if found["database"]:
        yield f"database: {found['database']}"
    yield f"records: {log['in_journal']:,} in the journal, {log['lost']:,} lost"
    columns = ("ENGINE", "CIRCUIT", "WAITING", "RUNNING")
    yield table(columns, [(e["name"], e["circuit"], e["waiting"], e["running"]) for e in found["engines"]])
    behind = [(e["name"], u) for e in found["engines"] for u in e.get("upstreams", ())]
    if behind:
        rows = [(name, u["name"], u["circuit"], u["running"]) for name, u in behind]
        yield table(("ENGINE", "UPSTREAM", "CIRCUIT", "RUNNING"), rows)
