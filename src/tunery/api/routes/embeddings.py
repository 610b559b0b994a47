"""Embeddings: texts or token ids to vectors, by the encoder that the server has."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunery.api.answering import unless_gone
from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Services, Shared
from tunery.core import access
from tunery.core.errors import ConfigError
from tunery.core.ids import new_id
from tunery.core.limits import Scope
from tunery.core.prices import Used
from tunery.pipeline.gateway.names import UnknownModel, resolve
from tunery.serve.openai.embeddings import EmbeddingBody, embedding_list
from tunery.traffic.limits.meter import Hold
from tunery.traffic.limits.refusal import Size

router = APIRouter(route_class=JsonRoute)


@router.post("/embeddings")
async def create_embeddings(
    body: EmbeddingBody, request: Request, shared: Shared, caller: Caller
) -> Response:
    """Return a vector for each input, in their order."""
    return await unless_gone(request, _answer(body, shared, caller))


async def _answer(body: EmbeddingBody, shared: Services, caller: access.Caller) -> Response:
    rows, hold = await anyio.to_thread.run_sync(_admitted, body, shared, caller)
    tokens = 0
    try:
        vectors = await shared.embedder.embed(rows)
        tokens = sum(map(len, rows))
    finally:
        shared.meter.settle(hold, _scope(body, caller), Used(tokens))
    content = await anyio.to_thread.run_sync(
        lambda: embedding_list(body.model, vectors, tokens=tokens, encoding=body.encoding_format)
    )
    return Response(content, media_type="application/json")


def _admitted(body: EmbeddingBody, shared: Services, caller: access.Caller) -> tuple[list[list[int]], Hold]:
    """Return the inputs' ids and what is reserved for them.

    Raises:
        ConfigError: The inputs cannot be embedded.
        NotFoundError: There is no such model.
        TuneryError: A limit refuses them.
    """
    embedder = shared.embedder
    if body.model != embedder.name:
        _refuse(body.model, shared)
    size = embedder.encoder.dimensions
    if body.dimensions not in (None, size):
        raise ConfigError(
            f"{embedder.name} gives {size} numbers and cannot be cut to {body.dimensions}", param="dimensions"
        )
    rows = embedder.rows(body.inputs(), cut_at=body.truncate_prompt_tokens)
    id = new_id("embd", shared.workspace.clock.now())
    size_of_call = Size(sum(map(len, rows)), 0, 0)
    return rows, shared.meter.admit(id, _scope(body, caller), size_of_call, spare=caller.spare)


def _scope(body: EmbeddingBody, caller: access.Caller) -> Scope:
    return Scope(caller.project, caller.key_id, body.user, body.model)


def _refuse(model: str, shared: Services) -> None:
    """Say what there is instead of a model that gives no embeddings.

    Raises:
        ConfigError: It answers conversations.
        NotFoundError: There is none of that name.
    """
    name = shared.embedder.name
    instead = f"embeddings come from {name}" if name else "no encoder is served here"
    hint = None if name else "the operator sets embeddings.encoder"
    try:
        resolve(shared.workspace, shared.bases.default, model, "")
    except UnknownModel:
        raise UnknownModel(f"no model named {model!r:.160}; {instead}", hint=hint, param="model") from None
    raise ConfigError(f"{model} answers conversations; {instead}", hint=hint, param="model")
