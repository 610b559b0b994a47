"""Tokens: texts and conversations as the ids that models read, and back, by vLLM's paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from fastapi import APIRouter

import tunery
from tunery.api.json_route import JsonRoute
from tunery.api.services import Services, Shared
from tunery.core.errors import ConfigError, TuneryError
from tunery.core.example import Message
from tunery.pipeline.gateway.names import resolve
from tunery.pipeline.gateway.start import as_served
from tunery.serve.openai.tokens import DetokenizeBody, TokenizeBody

router = APIRouter(route_class=JsonRoute)
_LONGEST = 4
"""Texts are counted up to so many times a model's window; more would take memory that others need."""


class _Vocabulary(Protocol):
    """What a tokenizer and an encoder have in common."""

    @property
    def vocab_size(self) -> int: ...

    def pieces(self, ids: Sequence[int]) -> list[str]: ...

    def decode_all(self, ids: Sequence[int]) -> str: ...

    def framed(self, ids: Sequence[int]) -> Sequence[int]: ...


class Read(NamedTuple):
    """A text in tokens."""

    ids: Sequence[int]
    window: int
    """Tokens that the model reads at most [count]."""
    tokenizer: _Vocabulary


@router.post("/tokenize")
def tokenize(body: TokenizeBody, shared: Shared) -> dict[str, Any]:
    """Return the ids of a text, or those that a chat completion of these messages would begin with."""
    try:
        read = _encoded(body, shared) if body.model == shared.embedder.name else _read(body, shared)
    except TuneryError as error:
        if error.param in ("messages", "input") and body.messages is None:
            error.param = "prompt"
        raise
    return {
        "count": len(read.ids),
        "max_model_len": read.window,
        "tokens": list(read.ids),
        "token_strs": read.tokenizer.pieces(read.ids) if body.return_token_strs else None,
    }


@router.post("/detokenize")
def detokenize(body: DetokenizeBody, shared: Shared) -> dict[str, Any]:
    """Return the text of ids, special tokens by their names."""
    vocabulary: _Vocabulary
    if body.model is not None and body.model == shared.embedder.name:
        vocabulary = shared.embedder.encoder
    else:
        target = resolve(shared.workspace, shared.bases.default, _name(body.model, shared), "")
        vocabulary = shared.bases.get(target.base).tokenizer
    unknown = next((i for i in body.tokens if i >= vocabulary.vocab_size), None)
    if unknown is not None:
        raise ConfigError(
            f"there is no token {unknown}; they are from 0 to {vocabulary.vocab_size - 1}", param="tokens"
        )
    return {"prompt": vocabulary.decode_all(body.tokens)}


async def version() -> dict[str, str]:
    """Say which version answers."""
    return {"version": tunery.__version__}


def _name(model: str | None, shared: Services) -> str:
    return shared.bases.default.name if model is None else model


def read_conversation(turns: tuple[Message, ...], model: str | None, shared: Services) -> Read:
    """Return the ids that a conversation's completion would begin with, the version's system prompt included.

    Raises:
        NotFoundError: There is no such model.
        ConfigError: The conversation is far over the model's window.
        RefusedByTemplate: The template does not take it.
    """
    target = resolve(shared.workspace, shared.bases.default, _name(model, shared), "")
    base = shared.bases.get(target.base)
    tokenizer, window = base.tokenizer.on_day(target.day), base.engine.context_window
    system_prompt = target.version.system_prompt if target.version else None
    ids = tokenizer.render_prompt(as_served(turns, system_prompt), most=_LONGEST * window)
    return Read(ids, window, tokenizer)


def _read(body: TokenizeBody, shared: Services) -> Read:
    if body.messages is not None:
        read = read_conversation(body.turns(), body.model, shared)
        return read._replace(ids=read.tokenizer.framed(read.ids)) if body.add_special_tokens else read
    target = resolve(shared.workspace, shared.bases.default, _name(body.model, shared), "")
    base = shared.bases.get(target.base)
    window = base.engine.context_window
    ids = base.tokenizer.encode(body.prompt or "", most=_LONGEST * window)
    is_framed = body.add_special_tokens is not False
    return Read(base.tokenizer.framed(ids) if is_framed else ids, window, base.tokenizer)


def _encoded(body: TokenizeBody, shared: Services) -> Read:
    encoder = shared.embedder.encoder
    if body.prompt is None:
        raise ConfigError(f"{body.model} reads texts, not conversations", param="messages")
    shared.embedder.check_size([body.prompt])
    ids = encoder.encode(body.prompt)
    return Read(ids if body.add_special_tokens is False else encoder.framed(ids), encoder.max_tokens, encoder)
