"""Models: the base, names, versions, aliases and what jobs made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Services, Shared
from tunery.core.errors import ConflictError
from tunery.core.training import BaseModelInfo
from tunery.model.tokenizer import declared_window
from tunery.pipeline.gateway.names import (
    ServedModel,
    resolve,
    served_forwarded,
    served_models,
    version_of,
)

router = APIRouter(prefix="/models", route_class=JsonRoute)
ENCODER = "encoder"
"""Owner of what gives embeddings and answers nothing."""


@router.get("")
def list_models(shared: Shared) -> dict[str, Any]:
    """List every name that requests may ask for."""
    base = shared.bases.default
    found = [model_object(m) for m in served_models(shared.workspace, base)]
    for item in found:
        if item["id"] == base.name:
            item["max_model_len"] = _window(base, shared)
    if shared.embedder.name:
        found.append(model_object(ServedModel(shared.embedder.name, 0, ENCODER)))
    return {"object": "list", "data": found}


@router.get("/{model:path}")
def retrieve_model(model: str, shared: Shared) -> dict[str, Any]:
    """Describe one model; the path may hold slashes, as names from a hub do."""
    if model == shared.embedder.name:
        return model_object(ServedModel(model, 0, ENCODER))
    target = resolve(shared.workspace, shared.bases.default, model, "")
    window, version = _window(target.base, shared), target.version
    if forwarded := served_forwarded(shared.workspace, model):
        parent = version.base.partition("@")[0] if version and forwarded.root else None
        return {**model_object(forwarded), "max_model_len": window, "parent": parent}
    if version is None:
        return {**model_object(ServedModel(model, 0, "base")), "max_model_len": window}
    created = int(version.created_at.timestamp())
    found = model_object(ServedModel(model, created, "tunery", bool(version.overrides), version.ref))
    return {**found, "max_model_len": window, "parent": version.base.partition("@")[0]}


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
    """Return OpenAI's model object with vLLM's fields; one whose gate was overridden says so.

    So does one whose end is known; an end that its source did not state itself names whose report it is.
    """
    said: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "root": model.root or model.id,
        "parent": None,
        "max_model_len": None,
    }
    if model.overridden:
        said["gate_overridden"] = True
    if (end := model.shutdown) is not None:
        said["shutdown_date"] = end.on.isoformat()
        if end.is_reported:
            said["shutdown_reported_by"] = end.source
    return said


def _window(base: BaseModelInfo, shared: Services) -> int | None:
    """Return the tokens of a prompt and its answer, by its engine, else by its files and settings."""
    known = shared.bases.window(base)
    if known is not None:
        return known
    bounds = [declared_window(base.path), shared.settings.engine.window]
    return min((bound for bound in bounds if bound is not None), default=None)
