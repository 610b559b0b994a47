"""Keys of the caller's project: make, list, revoke."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, StringConstraints

from tunery.api.json_route import JsonRoute
from tunery.api.services import Shared, page_of, unix
from tunery.core.access import ApiKey, Role
from tunery.serve.openai.wire import Text, Wire

router = APIRouter(prefix="/keys", route_class=JsonRoute)


class KeyBody(Wire):
    """Whose key to make, and what it may do."""

    name: Annotated[Text, StringConstraints(min_length=1, max_length=64)]
    role: Role
    expires_at: AwareDatetime | None = None
    """A time with its zone; left out, the key works until it is revoked."""


@router.post("")
def create_key(body: KeyBody, shared: Shared) -> dict[str, Any]:
    """Make a key of this project; its secret is in this answer alone."""
    made = shared.workspace.keys.create(body.name, body.role, expires_at=body.expires_at)
    return {**key_object(made.key), "secret": made.secret}


@router.get("")
def list_keys(
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """List the project's keys, newest first, revoked ones too."""
    page = shared.workspace.keys.page(after=after, limit=limit)
    return page_of([key_object(key) for key in page.items], has_more=page.has_more)


@router.delete("/{key_id}")
def revoke_key(key_id: str, shared: Shared) -> dict[str, Any]:
    """Refuse a key from now on."""
    return key_object(shared.workspace.keys.revoke(key_id))


def key_object(key: ApiKey) -> dict[str, Any]:
    """Return a key as JSON, without what it is recognised by."""
    return {
        "id": key.id,
        "object": "key",
        "name": key.name,
        "prefix": key.prefix,
        "project": key.project,
        "role": key.role,
        "created_at": unix(key.created_at),
        "expires_at": unix(key.expires_at),
        "revoked_at": unix(key.revoked_at),
    }
