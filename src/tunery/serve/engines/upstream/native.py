"""Conversations and answers in the words of chat completions: what goes out, what comes back in pieces."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from tunery.core.engine import GenerationRequest, NativeAnswer, NativePiece
from tunery.core.errors import ResourceError
from tunery.core.example import Message, SentMessage
from tunery.core.tool_text import read_functions

_OWN = ("index", "id", "type", "function")
"""What a piece of a call has; servers add what they want back with the call, such as a signature."""
_REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")


def native_messages(request: GenerationRequest) -> list[dict[str, Any]]:
    """Return a request's conversation as chat completions write it.

    Functions that go along as ``tools`` are not described in the system turn as well. A result whose id no
    call before it has, which is so where a call was read back from its record, is that of the next call.
    """
    described = bool((request.chat or {}).get("tools"))
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    for turn in request.messages:
        message = _message(turn, described=described)
        if message is None:
            continue
        if turn.role == "assistant":
            waiting = [call["id"] for call in message.get("tool_calls", ())]
        elif message["role"] == "tool":
            id = message.get("tool_call_id")
            if id not in waiting and waiting:
                message["tool_call_id"] = id = waiting[0]
            waiting = [other for other in waiting if other != id]
        messages.append(message)
    return messages


def _message(turn: Message, *, described: bool) -> dict[str, Any] | None:
    """Return one turn; None of a system turn that describes functions alone."""
    if isinstance(turn, SentMessage):
        message = dict(turn.wire)
        if calls := message.get("tool_calls"):
            message["tool_calls"] = [{"type": "function", **c, "id": c.get("id") or call_id()} for c in calls]
        return message
    text = turn.content
    if described and turn.role == "system":
        text = read_functions(text).text
        if not text:
            return None
    return {"role": turn.role, "content": text}


def call_id() -> str:
    """Return an id for a call that came without one."""
    return f"call_{secrets.token_hex(12)}"


class NativeParts:
    """The parts of one streamed answer besides its text, put together as they come."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._places: dict[Any, int] = {}
        self._refusal = ""

    def take(self, calls: Sequence[Any], refusal: str) -> NativePiece:
        """Take what a chunk holds and return it as it is passed on, calls numbered in their order.

        Raises:
            ResourceError: A call is none: it has no function, or its first piece no name.
        """
        self._refusal += refusal
        return NativePiece(tuple(self._taken(call) for call in calls), refusal)

    def answer(self, content: str, reason: str | None) -> NativeAnswer:
        """Return the whole answer."""
        reason = reason if reason in _REASONS else "stop"
        if self._calls and reason == "stop":
            reason = "tool_calls"
        return NativeAnswer(content, tuple(self._calls), self._refusal or None, str(reason))

    def _taken(self, call: Any) -> Mapping[str, Any]:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise _broken(call)
        key, id, name = call.get("index"), call.get("id"), function.get("name")
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        if not text.isascii():  # half a surrogate pair can be neither sent nor stored
            text = text.encode("utf-8", "replace").decode()
        more = {field: value for field, value in call.items() if field not in _OWN}
        place = self._places.get(key)
        # Some servers give every call the index 0, or none at all, and tell calls apart by their ids.
        if place is not None and not (id and name and id != self._calls[place]["id"]):
            known = self._calls[place]
            known["function"]["arguments"] += text
            known |= more
            return {"index": place, "function": {"arguments": text}, **more}
        if not isinstance(name, str) or not name:
            raise _broken(call)
        place = self._places[key] = len(self._calls)
        begun = {"id": str(id or call_id()), "type": "function", **more}
        self._calls.append({**begun, "function": {"name": name, "arguments": text}})
        return {"index": place, **begun, "function": {"name": name, "arguments": text}}


def _broken(call: Any) -> ResourceError:
    shown = json.dumps(call, default=str)[:120]
    return ResourceError(f"the upstream sent a call that names no function: {shown}", hint="try again")
