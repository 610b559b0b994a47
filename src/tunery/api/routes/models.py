"""Models: the base, names, versions, aliases and what jobs made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Shared
from tunery.core.errors import ConflictError
from tunery.pipeline.gateway.names import ServedModel, resolve, served_models, version_of

router = APIRouter(prefix="/models", route_class=JsonRoute)
ENCODER = "encoder"
"""Owner of what gives embeddings and answers nothing."""


@router.get("")
def list_models(shared: Shared) -> dict[str, Any]:
    """List every name that requests may ask for."""
    models = served_models(shared.workspace, shared.bases.default)
    encoder = [ServedModel(shared.embedder.name, 0, ENCODER)] if shared.embedder.name else []
    return {"object": "list", "data": [model_object(m) for m in (*models, *encoder)]}


@router.get("/{model:path}")
def retrieve_model(model: str, shared: Shared) -> dict[str, Any]:
    """Describe one model; the path may hold slashes, as names from a hub do."""
    if model == shared.embedder.name:
        return model_object(ServedModel(model, 0, ENCODER))
    version = resolve(shared.workspace, shared.bases.default, model, "").version
    if version is None:
        return model_object(ServedModel(model, 0, "base"))
    created = int(version.created_at.timestamp())
    return model_object(ServedModel(model, created, "tunery", bool(version.overrides)))


@router.delete("/{model:path}")
def delete_model(model: str, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Delete one version, the aliases of a name's only one with it; refused while something needs it."""
    if model in (shared.bases.default.name, shared.embedder.name):
        raise ConflictError(f"{model} is a model that this server brings along and cannot be deleted")
    version = version_of(shared.workspace, model)
    shared.workspace.models.delete(
        version.name, version.version, actor=caller.name, reason=f"{version.ref} was deleted"
    )
    others = shared.workspace.models.list(version.name)
    if all(v.adapter_id != version.adapter_id for v in others):
        shared.bases.forget_adapter(version.adapter_id)
    return {"id": model, "object": "model", "deleted": True}


def model_object(model: ServedModel) -> dict[str, Any]:
    """Return OpenAI's model object; one whose gate was overridden says so."""
    said = {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
    return {**said, "gate_overridden": True} if model.overridden else said
