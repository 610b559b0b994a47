"""The audit log of the caller's project."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunery.api.json_route import JsonRoute
from tunery.api.services import Shared, page_of, unix
from tunery.core.audit import AuditRecord

router = APIRouter(prefix="/audit", route_class=JsonRoute)


@router.get("")
def list_records(
    shared: Shared,
    since: Annotated[int | None, Query(ge=0, le=2**33)] = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """List what was changed, tried and refused, newest first; ``since`` is in Unix seconds."""
    moment = None if since is None else datetime.fromtimestamp(since, UTC)
    page = shared.workspace.audit.since(moment, after=after, limit=limit)
    return page_of([record_object(r) for r in page.items], has_more=page.has_more)


def record_object(record: AuditRecord) -> dict[str, Any]:
    """Return a record as JSON; what it was of stands under ``target``."""
    fields = record.model_dump(mode="json", exclude={"object"})
    return {
        **fields,
        "object": "audit.record",
        "target": record.object,
        "created_at": unix(record.created_at),
    }
