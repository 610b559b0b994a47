"""Embeddings: texts or token ids to vectors, by the encoder that the server has."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from tunery.api.answering import unless_gone
from tunery.api.json_route import JsonRoute
from tunery.api.services import Services, Shared
from tunery.core.errors import ConfigError
from tunery.pipeline.gateway.names import UnknownModel, resolve
from tunery.serve.openai.embeddings import EmbeddingBody, embedding_list

router = APIRouter(route_class=JsonRoute)


@router.post("/embeddings")
async def create_embeddings(body: EmbeddingBody, request: Request, shared: Shared) -> Response:
    """Return a vector for each input, in their order."""
    return await unless_gone(request, _answer(body, shared))


async def _answer(body: EmbeddingBody, shared: Services) -> Response:
    embedder = shared.embedder
    if body.model != embedder.name:
        await anyio.to_thread.run_sync(_refuse, body.model, shared)
    encoder = await anyio.to_thread.run_sync(lambda: embedder.encoder)
    if body.dimensions not in (None, encoder.dimensions):
        raise ConfigError(
            f"{embedder.name} gives {encoder.dimensions} numbers and cannot be cut to {body.dimensions}",
            param="dimensions",
        )
    done = await embedder.embed(body.inputs(), cut_at=body.truncate_prompt_tokens)
    content = await anyio.to_thread.run_sync(
        lambda: embedding_list(body.model, done.vectors, tokens=done.tokens, encoding=body.encoding_format)
    )
    return Response(content, media_type="application/json")


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
