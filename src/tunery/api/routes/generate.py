"""Chat completions and completions, whole and streamed."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from tunery.api.answering import STREAM_HEADERS, head_of, patience_s, unless_gone
from tunery.api.errors import problem_of
from tunery.api.json_route import JsonRoute
from tunery.api.services import Caller, Services, Shared
from tunery.core import access
from tunery.core.errors import TuneryError
from tunery.core.ids import new_id
from tunery.core.tool_text import read_answer
from tunery.pipeline.gateway.answer import Piece, Running
from tunery.pipeline.gateway.call import CompletionCall, subject_of
from tunery.serve.openai import chat, completions
from tunery.serve.openai.chat import ChatBody, Head
from tunery.serve.openai.completions import Columns, CompletionBody
from tunery.serve.openai.tool_calls import CallWatch

router = APIRouter(route_class=JsonRoute)
_LOG = logging.getLogger(__name__)


@router.post("/chat/completions")
async def create_chat_completion(
    body: ChatBody, request: Request, shared: Shared, caller: Caller
) -> Response:
    """Answer a conversation."""
    return await _answer(body, request, shared, caller)


@router.post("/completions")
async def create_completion(
    body: CompletionBody, request: Request, shared: Shared, caller: Caller
) -> Response:
    """Continue a text."""
    return await _answer(body, request, shared, caller)


def _call(
    body: ChatBody | CompletionBody, request: Request, shared: Services, caller: access.Caller
) -> CompletionCall:
    is_chat = isinstance(body, ChatBody)
    return CompletionCall(
        id=new_id("chatcmpl" if is_chat else "cmpl", shared.workspace.clock.now()),
        model=body.model,
        caller=replace(caller, user=body.sticks_by),
        subject=subject_of(body.sticks_by, caller.key_id),
        messages=body.turns() if isinstance(body, ChatBody) else None,
        prompts=body.prompts() if isinstance(body, CompletionBody) else (),
        choices=body.choices,
        sampling=body.how(shared.settings.defaults),
        constraint=body.constraint(),
        chat=body.chat() if isinstance(body, ChatBody) else None,
        prompt_logprobs=body.echoed_logprobs if isinstance(body, CompletionBody) else None,
        metadata=body.metadata or {},
        keep_text=body.store is not False,
        timeout_s=patience_s(request),
    )


async def _answer(
    body: ChatBody | CompletionBody, request: Request, shared: Services, caller: access.Caller
) -> Response:
    call = _call(body, request, shared, caller)
    if body.stream:
        # Started before the response begins, so that a refusal still has its own status.
        running = await shared.gateway.start(call, stream=True)
        request.scope["at_end"].callback(running.end, None)  # however the request ends
        events = _events(running, body, str(request.scope["request_id"]))
        return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)
    return await unless_gone(request, _whole(call, body, shared))


async def _whole(call: CompletionCall, body: ChatBody | CompletionBody, shared: Services) -> dict[str, Any]:
    async with await shared.gateway.start(call, stream=False) as running:
        generations = await running.finish()
        head = head_of(running)
        if isinstance(body, ChatBody):
            content = chat.completion_of(
                head,
                generations,
                logprobs=bool(body.logprobs),
                offer=body.offer if body.may_call else None,
            )
            return {**content, "metadata": dict(call.metadata)} if call.metadata else content
        return completions.text_completion(
            head,
            generations,
            prompts=len(call.prompts),
            echo=running.prompt_texts() if body.echo else None,
            logprobs=body.logprobs is not None,
        )


async def _events(running: Running, body: ChatBody | CompletionBody, request_id: str) -> AsyncIterator[str]:
    """Yield server-sent events; closing this generator cancels the generation."""
    try:
        async with running:
            head = head_of(running)
            if isinstance(body, ChatBody):
                for index in range(running.call.choices):
                    yield _event(chat.first_chunk(head, index))
            elif body.echo:
                for index, text in enumerate(running.prompt_texts()):
                    for choice in range(index * body.choices, (index + 1) * body.choices):
                        yield _event(completions.text_chunk(head, choice, text, None))
            read = body.offer.read if isinstance(body, ChatBody) else read_answer
            watches = defaultdict[int, CallWatch](lambda: CallWatch(read))
            written = _Written(defaultdict(Columns), None if running.is_native else watches)
            async for piece in running.stream():
                for chunk in _chunks(head, piece, body, written):
                    yield _event(chunk)
            if body.include_usage:
                yield _event(_usage(head, body, running))
        yield "data: [DONE]\n\n"
    except Exception as error:
        # The status is long sent; the client raises an error event as an exception.
        if not isinstance(error, TuneryError):
            _LOG.exception("%s: a stream broke", request_id)
        yield _event(problem_of(error, request_id).body())


@dataclass(slots=True)
class _Written:
    """What a stream remembers of each choice."""

    columns: Mapping[int, Columns]
    """Of a completion's log-probabilities, so far."""
    watches: Mapping[int, CallWatch] | None
    """What may be calls of functions; None where these come in parts of their own."""


def _chunks(
    head: Head, piece: Piece, body: ChatBody | CompletionBody, written: _Written
) -> Iterator[dict[str, Any]]:
    """Yield one piece as it goes over the wire."""
    if isinstance(body, ChatBody):
        yield from _chat_chunks(head, piece, body, written.watches)
    elif piece.finished is not None:
        yield completions.last_chunk(head, piece.choice, piece.finished)
    else:
        columns = written.columns[piece.choice].of(piece.tokens) if body.logprobs is not None else None
        yield completions.text_chunk(head, piece.choice, piece.text, columns)


def _chat_chunks(
    head: Head, piece: Piece, body: ChatBody, watches: Mapping[int, CallWatch] | None
) -> Iterator[dict[str, Any]]:
    if piece.native is not None:
        yield chat.native_chunk(head, piece.choice, piece.native)
        return
    if piece.finished is None:
        logprobs = chat.logprobs_of(piece.tokens) if body.logprobs else None
        may_call = watches is not None and body.may_call
        text = watches[piece.choice].feed(piece.text) if watches is not None and may_call else piece.text
        if text or logprobs or not may_call:
            yield chat.text_chunk(head, piece.choice, text, logprobs)
        return
    if watches is None:
        yield chat.last_chunk(head, piece.choice, piece.finished)
        return
    left = watches[piece.choice].end()
    if left.text:
        yield chat.text_chunk(head, piece.choice, left.text, None)
    if left.calls:
        yield chat.calls_chunk(head, piece.choice, left.calls)
    yield chat.last_chunk(head, piece.choice, piece.finished, called=bool(left.calls))


def _usage(head: Head, body: ChatBody | CompletionBody, running: Running) -> dict[str, Any]:
    if isinstance(body, ChatBody):
        return chat.usage_chunk(head, running.generations)
    return completions.usage_chunk(head, running.generations, prompts=len(running.call.prompts))


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"
