"""Responses: OpenAI's newer way to ask for an answer, by the same road as chat completions."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from tunery.api.answering import STREAM_HEADERS, head_of, patience_s, unless_gone
from tunery.api.errors import problem_of
from tunery.api.json_route import JsonRoute
from tunery.api.routes.stored import get_call
from tunery.api.routes.tokens import read_conversation
from tunery.api.services import Caller, Services, Shared, page_of, part_of, unix
from tunery.core import access
from tunery.core.engine import Generation
from tunery.core.errors import ConfigError, NotFoundError, TuneryError
from tunery.core.example import Message
from tunery.core.ids import new_id
from tunery.core.rollout import CALL_IDS, RequestRecord
from tunery.core.tool_text import Answer
from tunery.pipeline.gateway.answer import Running
from tunery.pipeline.gateway.call import CompletionCall, subject_of
from tunery.serve.openai.chat import Head, logprobs_of
from tunery.serve.openai.response_events import ResponseEvents
from tunery.serve.openai.response_items import answered_turn, input_items, output_items, recalled_turn
from tunery.serve.openai.responses import (
    Echo,
    InputTokensBody,
    ResponsesBody,
    Status,
    StoredTurns,
    response_key,
    response_object,
    status_of,
    stored_turns,
    usage_of,
)
from tunery.serve.openai.tool_calls import CallWatch, Offer

router = APIRouter(prefix="/responses", route_class=JsonRoute)
_LOG = logging.getLogger(__name__)
_SEND_ALL = "send the whole conversation as input"


class PreviousNotFound(ConfigError):  # noqa: N818 - named after what the client is told
    """No response of that id can be followed on."""

    code = "previous_response_not_found"


@router.post("")
async def create_response(body: ResponsesBody, request: Request, shared: Shared, caller: Caller) -> Response:
    """Answer a conversation, perhaps following on an answer of before."""
    history: tuple[Message, ...] = ()
    if body.previous_response_id is not None:
        history = await anyio.to_thread.run_sync(_history, shared, caller, body.previous_response_id)
    carried = body.carried(history)
    call = _call(body, carried, shared, caller, patience_s(request))
    if body.stream:
        # Started before the response begins, so that a refusal still has its own status.
        running = await _start(call, shared, stream=True)
        request.scope["at_end"].callback(running.end, None)  # however the request ends
        events = _events(running, body, carried, shared, str(request.scope["request_id"]))
        return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)
    return await unless_gone(request, _whole(call, body, carried, shared))


@router.post("/input_tokens")
def count_input_tokens(body: InputTokensBody, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Return how many tokens a response would read."""
    history = _history(shared, caller, body.previous_response_id) if body.previous_response_id else ()
    with _said_of_input():
        read = read_conversation(body.turns(body.carried(history)), body.model, shared)
    return {"object": "response.input_tokens", "input_tokens": len(read.ids)}


@router.get("/{response_id}")
def retrieve_response(response_id: str, shared: Shared, stream: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - a query parameter of OpenAI's
    """Return a stored response, personal data masked."""
    if stream:
        raise ConfigError("a response is not streamed again; leave it out", param="stream")
    return _stored_object(_get(shared, response_id))


@router.delete("/{response_id}")
def delete_response(response_id: str, shared: Shared, caller: Caller) -> dict[str, Any]:
    """Delete a response: its texts are gone, and only its figures are kept for tallies."""
    _get(shared, response_id)
    shared.conversations.forget(caller.project, response_id)
    shared.log.forget(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/{response_id}/cancel")
def cancel_response(response_id: str, shared: Shared) -> dict[str, Any]:
    """Refuse: only responses in the background can be cancelled, and there are none."""
    _get(shared, response_id)
    raise ConfigError(
        f"{response_id} was not created with background: true, which is not served here; "
        "close its stream or its connection to end a response that runs",
        param="response_id",
    )


@router.get("/{response_id}/input_items")
def list_input_items(
    response_id: str,
    shared: Shared,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """Return what was answered, item by item, the newest first unless asked otherwise."""
    found = _get(shared, response_id)
    turns = _turns(found).carried
    part = part_of(
        list(input_items(turns, response_key(found.id))), after=after, limit=limit, order=order, of=found.id
    )
    return page_of(part.items, has_more=part.has_more)


def _call(
    body: ResponsesBody,
    carried: Sequence[Message],
    shared: Services,
    caller: access.Caller,
    timeout_s: float | None,
) -> CompletionCall:
    sampling = body.how(shared.settings.defaults)
    return CompletionCall(
        id=new_id("resp", shared.workspace.clock.now()).replace("-", "_", 1),
        model=body.model,
        caller=replace(caller, user=body.sticks_by),
        subject=subject_of(body.sticks_by, caller.key_id),
        messages=body.turns(carried),
        sampling=sampling,
        constraint=body.constraint(),
        chat=body.chat(),
        metadata=body.metadata or {},
        keep_text=body.store is not False,
        truncate=body.truncation == "auto",
        response=body.settings(sampling, carried),
        timeout_s=timeout_s,
    )


async def _start(call: CompletionCall, shared: Services, *, stream: bool) -> Running:
    with _said_of_input():
        return await shared.gateway.start(call, stream=stream)


@contextlib.contextmanager
def _said_of_input() -> Iterator[None]:
    """Say of the input what is wrong with messages: that is the field they came in."""
    try:
        yield
    except TuneryError as error:
        if error.param is not None and error.param.startswith("messages"):
            error.param = "input"
        raise


def _echo(running: Running, body: ResponsesBody) -> Echo:
    call = running.call
    return Echo(call.response or {}, body.instructions, body.offer.functions, call.metadata, call.keep_text)


async def _whole(
    call: CompletionCall, body: ResponsesBody, carried: Sequence[Message], shared: Services
) -> dict[str, Any]:
    async with await _start(call, shared, stream=False) as running:
        (done,) = await running.finish()
        answer = done.native or (body.offer.read(done.text) if body.may_call else Answer(done.text, ()))
        status = status_of(done)
        output = output_items(
            answer,
            response_key(call.id),
            status=status,
            logprobs=logprobs_of(done.tokens)["content"] if body.wants_logprobs else (),
        )
        usage = usage_of(done.prompt_tokens, done.completion_tokens, cached=done.cached_tokens)
        _remember(running, carried, done, shared)
        return response_object(
            head_of(running), _echo(running, body), status=status, output=output, usage=usage
        )


async def _events(
    running: Running, body: ResponsesBody, carried: Sequence[Message], shared: Services, request_id: str
) -> AsyncIterator[str]:
    """Yield server-sent events; closing this generator cancels the generation."""
    events = ResponseEvents(
        head_of(running),
        _echo(running, body),
        watch=CallWatch(body.offer.read) if body.may_call and not running.is_native else None,
        logprobs=body.wants_logprobs,
    )
    try:
        async with running:
            for event in events.begin():
                yield _written(event)
            async for piece in running.stream():
                if piece.native is not None:
                    for event in events.native(piece.native):
                        yield _written(event)
                elif piece.finished is None:
                    for event in events.text(piece.text, piece.tokens):
                        yield _written(event)
            (done,) = running.generations
            _remember(running, carried, done, shared)
        # Behind the record: who reads the last event may ask for the response.
        for event in events.end(done):
            yield _written(event)
    except Exception as error:
        # The status is long sent.
        if not isinstance(error, TuneryError):
            _LOG.exception("%s: a stream broke", request_id)
        problem = problem_of(error, request_id)
        code = "invalid_prompt" if problem.status < 500 else "server_error"
        yield _written(events.failed({"code": code, "message": problem.message}))


def _written(event: dict[str, Any]) -> str:
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {text}\n\n"


def _remember(running: Running, carried: Sequence[Message], done: Generation, shared: Services) -> None:
    call = running.call
    if call.keep_text:
        turns = (*carried, answered_turn(done.text, done.native))
        shared.conversations.keep(call.caller.project, call.id, turns)


def _history(shared: Services, caller: access.Caller, id: str) -> tuple[Message, ...]:
    """Return the conversation that ends with a response, in the words that were really said.

    Raises:
        PreviousNotFound: There is no such response, or its texts are not kept.
        ConfigError: Its texts are kept masked, and the words themselves are not remembered any more.
    """
    try:
        found = _get(shared, id)
    except NotFoundError as error:
        raise PreviousNotFound(error.message, param="previous_response_id") from None
    remembered = shared.conversations.find(caller.project, id) if found.text != "removed" else None
    if remembered is not None:
        return remembered
    if found.text != "kept":
        raise PreviousNotFound(
            f"the texts of {id} are not kept ({found.text}), so nothing can follow on it; {_SEND_ALL}",
            param="previous_response_id",
        )
    if found.altered:
        raise ConfigError(
            f"{id} holds personal data, which is kept masked, and its words are not remembered any more; "
            f"{_SEND_ALL}",
            param="previous_response_id",
        )
    turns = (*_turns(found).carried, Message(role="assistant", content=found.completion))
    key, ids = response_key(id), _call_ids(found)
    return tuple(
        recalled_turn(turn, f"{key}_{n}", ids if n == len(turns) - 1 else ()) for n, turn in enumerate(turns)
    )


def _call_ids(found: RequestRecord) -> Sequence[str]:
    ids: Sequence[str] = (found.response or {}).get(CALL_IDS, ())
    return ids


def _get(shared: Services, id: str) -> RequestRecord:
    """Return the record of a response.

    Raises:
        NotFoundError: There is none of that id, or its client did not want it to be stored.
    """
    if id.startswith("resp_"):
        found = get_call(shared, id)
        if found.response is not None and found.text != "not_asked":
            return found
    raise NotFoundError(f"no response with the id {id!r:.160}", param="response_id")


def _turns(found: RequestRecord) -> StoredTurns:
    return stored_turns(found.messages, (found.response or {}).get("first_turn"))


def _stored_object(found: RequestRecord) -> dict[str, Any]:
    turns, settings = _turns(found), found.response or {}
    status = _stored_status(found)
    choice, parallel = settings.get("tool_choice"), settings.get("parallel_tool_calls", True)
    required = choice == "required" or (isinstance(choice, dict) and choice.get("mode") != "auto")
    offer = Offer(turns.functions, turns.functions, required, bool(parallel))
    answer = offer.read(found.completion) if offer.functions else Answer(found.completion, ())
    has_text = found.text == "kept"
    return response_object(
        Head(found.id, unix(found.created_at) or 0, found.model),
        Echo(settings, turns.instructions, turns.functions, found.metadata, store=True),
        status=status,
        output=output_items(answer, response_key(found.id), status=status, ids=_call_ids(found))
        if has_text
        else (),
        usage=usage_of(found.prompt_tokens, found.completion_tokens),
        error={"code": "server_error", "message": "the response failed"} if status == "failed" else None,
    )


def _stored_status(found: RequestRecord) -> Status:
    if found.status == "error":
        return "failed"
    if found.status == "cancelled":
        return "cancelled"
    return "completed" if found.finish_reason == "stop" else "incomplete"
