"""What the caller has used, and how its limits stand."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Shared
from tunery.core.access import allows
from tunery.core.limits import Scope, row_of

router = APIRouter(route_class=JsonRoute)
Part = Literal["day", "key", "model"]


@router.get("/usage")
def list_usage(
    shared: Shared,
    caller: Caller,
    by: Annotated[list[Part] | None, Query()] = None,
    since: date | None = None,
    until: date | None = None,
) -> dict[str, Any]:
    """Sum up what this key used, for an admin's key what its project used; days are those of UTC."""
    today = shared.workspace.clock.now().date()
    whose = None if allows(caller.role, "admin") else caller.key_id
    parts = list(dict.fromkeys(by or ["day"]))
    first, last = since or today.replace(day=1), until or today
    found = shared.workspace.usage.by(parts, {"key": whose}, first, last)
    rows = [{"object": "usage", **labels, **row_of(used)} for labels, used in found]
    return {"object": "list", "data": rows, "since": first.isoformat(), "until": last.isoformat()}


@router.get("/limits")
def list_limits(
    shared: Shared, caller: Caller, model: str | None = None, user: str | None = None
) -> dict[str, Any]:
    """List the limits that hold for this key, and with a model or a user for its calls to or for that."""
    scope = Scope(caller.project, caller.key_id, user, model.partition("@")[0] if model else None)
    found = shared.meter.standings(scope, shared.workspace.clock.now().timestamp())
    return {"object": "list", "data": [{"object": "limit", **standing.fields()} for standing in found]}
