"""Permissions of checkpoints: which other projects may ask for one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from tunery.api.json_route import JsonRoute
from tunery.api.services import Shared, page_of, part_of
from tunery.core.access import CheckpointPermission
from tunery.core.errors import NotFoundError
from tunery.pipeline.gateway.names import require_own_checkpoint

router = APIRouter(prefix="/fine_tuning/checkpoints", route_class=JsonRoute)
_MOST = 100


class Grant(BaseModel):
    """Who may ask for a checkpoint from now on."""

    project_ids: list[str] = Field(min_length=1, max_length=_MOST)
    """Names of projects."""


@router.post("/{checkpoint:path}/permissions")
def grant(checkpoint: str, body: Grant, shared: Shared) -> dict[str, Any]:
    """Let other projects ask for a checkpoint, or a job's model, by its name; of its job they see nothing."""
    workspace = shared.workspace
    require_own_checkpoint(workspace, checkpoint)
    made = [
        workspace.checkpoint_permissions.grant(checkpoint, project)
        for project in dict.fromkeys(body.project_ids)
    ]
    return page_of([_object(each) for each in made], has_more=False)


@router.get("/{checkpoint:path}/permissions")
def list_permissions(
    checkpoint: str,
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 10,
    order: Annotated[str, Query(pattern="^(ascending|descending)$")] = "descending",
    project_id: str | None = None,
) -> dict[str, Any]:
    """List which projects may ask for a checkpoint."""
    require_own_checkpoint(shared.workspace, checkpoint)
    found = [p for p in _permissions(shared, checkpoint) if project_id in (None, p.granted_to)]
    oldest_first = [_object(each) for each in reversed(found)]
    part = part_of(
        oldest_first,
        after=after,
        limit=limit,
        order="desc" if order == "descending" else "asc",
        of=checkpoint,
    )
    return page_of(part.items, has_more=part.has_more)


@router.delete("/{checkpoint:path}/permissions/{permission_id}")
def withdraw(checkpoint: str, permission_id: str, shared: Shared) -> dict[str, Any]:
    """Withdraw a permission; from the next request on the checkpoint is unknown there."""
    require_own_checkpoint(shared.workspace, checkpoint)
    found = shared.workspace.checkpoint_permissions.find(permission_id)
    if found is None or found.checkpoint != checkpoint:
        raise NotFoundError(f"no permission {permission_id!r:.80} of {checkpoint}")
    shared.workspace.checkpoint_permissions.delete(permission_id)
    return {"id": permission_id, "object": "checkpoint.permission", "deleted": True}


def _permissions(shared: Shared, checkpoint: str) -> list[CheckpointPermission]:
    return shared.workspace.checkpoint_permissions.list(10_000, checkpoint=checkpoint)


def _object(permission: CheckpointPermission) -> dict[str, Any]:
    return {
        "id": permission.id,
        "object": "checkpoint.permission",
        "created_at": int(permission.created_at.timestamp()),
        "project_id": permission.granted_to,
    }
