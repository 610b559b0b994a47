"""Items of ``/v1/responses``: what a client sends as input, and what an answer consists of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from tunery.core.engine import NativeAnswer
from tunery.core.example import Message, Role, SentMessage
from tunery.core.tool_text import Answer, NotACall, ToolCall, read_answer, said_call, write_answer
from tunery.serve.openai.tool_calls import wire_calls
from tunery.serve.openai.wire import Harmless, Text, Wire, text_parts, wrong

MAX_ITEMS = 2_000
"""Items of one input [count]."""


class Part(Wire):
    """One part of an item's text."""

    type: Literal["input_text", "output_text", "text", "refusal"]
    text: Text | None = None
    refusal: Text | None = None
    annotations: Harmless = None
    logprobs: Harmless = None
    parsed: Harmless = None
    prompt_cache_breakpoint: Harmless = None

    @model_validator(mode="after")
    def _has_text(self) -> Part:
        if self.words is None:
            raise wrong("refusal" if self.type == "refusal" else "text", "it is missing")
        return self

    @property
    def words(self) -> str | None:
        """What it says."""
        return self.refusal if self.type == "refusal" else self.text


Content = Annotated[Text | list[Part], text_parts("input_text", "output_text", "text", "refusal")]


def _joined(content: str | Sequence[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.words or "" for part in content)


class InputMessage(Wire):
    """A turn, or an answer of before."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: Harmless = None
    status: Harmless = None
    phase: Harmless = None
    agent: Harmless = None


class FunctionCallItem(Wire):
    """A call that an answer of before held."""

    type: Literal["function_call"]
    name: Text
    arguments: Any = ""
    call_id: Harmless = None
    """Results are shown in their order."""
    id: Harmless = None
    status: Harmless = None
    namespace: Harmless = None
    caller: Harmless = None
    agent: Harmless = None
    async_: Harmless = Field(default=None, alias="async")
    parsed_arguments: Harmless = None

    @model_validator(mode="after")
    def _is_a_call(self) -> FunctionCallItem:
        try:
            said_call(self.name, self.arguments)
        except NotACall as error:
            raise wrong("name" if not self.name else "arguments", str(error)) from None
        return self


class FunctionOutputItem(Wire):
    """What a function came to."""

    type: Literal["function_call_output"]
    output: Content
    call_id: Harmless = None
    id: Harmless = None
    status: Harmless = None
    caller: Harmless = None
    agent: Harmless = None


class ReasoningItem(Wire):
    """Thoughts of another model; passed over, as chat passes ``reasoning`` over."""

    type: Literal["reasoning"]
    id: Harmless = None
    summary: Harmless = None
    content: Harmless = None
    encrypted_content: Harmless = None
    status: Harmless = None


Item = InputMessage | FunctionCallItem | FunctionOutputItem | ReasoningItem
_KINDS: dict[str, type[Item]] = {
    "message": InputMessage,
    "function_call": FunctionCallItem,
    "function_call_output": FunctionOutputItem,
    "reasoning": ReasoningItem,
}


def read_items(given: Any) -> Any:
    """Return input as items; text is one turn of the user.

    Raises:
        ValidationError: An item is of a kind that is not served, or is wrong; says which and where.
    """
    if isinstance(given, str):
        return [InputMessage(role="user", content=given)]
    found = []
    for place, item in enumerate(given):
        kind = item.get("type", "message") if isinstance(item, dict) else None
        model = _KINDS.get(kind) if isinstance(kind, str) else None
        if model is None:
            served = ", ".join(_KINDS)
            raise _at((place, "type"), f"items of type {kind!r:.40} are not served here; {served} are")
        try:
            found.append(model.model_validate(item))
        except ValidationError as error:
            raise _within(place, error) from None
    return found


def _at(place: tuple[str | int, ...], message: str) -> ValidationError:
    problem = PydanticCustomError("value_error", "{message}", {"message": message})
    return ValidationError.from_exception_data(
        "request", [InitErrorDetails(type=problem, loc=place, input=None)]
    )


def _within(place: int, error: ValidationError) -> ValidationError:
    """Return an item's problems with the item's place before theirs."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(e["type"], "{message}", {"message": e["msg"]}),
            loc=(place, *e["loc"]),
            input=None,
        )
        for e in error.errors(include_input=False, include_url=False)
    ]
    return ValidationError.from_exception_data("request", details)


_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}


class _Turn(NamedTuple):
    role: Role
    text: str
    calls: list[ToolCall]
    wire: list[dict[str, Any]]
    """Its calls, with their ids, or the id of the call that it is the result of."""

    @property
    def message(self) -> Message:
        content = write_answer(self.text, self.calls)
        if not self.wire:
            return Message(role=self.role, content=content)
        if self.role == "tool":
            return SentMessage(
                role="tool", content=content, wire={"role": "tool", "content": self.text, **self.wire[0]}
            )
        wire = {"role": self.role, "content": self.text or None, "tool_calls": self.wire}
        return SentMessage(role=self.role, content=content, wire=wire)


def turns_of(items: Sequence[Item]) -> tuple[Message, ...]:
    """Return a conversation: calls belong to the assistant's turn before them, as chat writes them."""
    turns: list[_Turn] = []
    for item in items:
        if isinstance(item, FunctionCallItem):
            if not turns or turns[-1].role != "assistant":
                turns.append(_Turn("assistant", "", [], []))
            turns[-1].calls.append(said_call(item.name, item.arguments))
            turns[-1].wire.append(_wire_call(item.call_id, item.name, item.arguments))
        elif isinstance(item, FunctionOutputItem):
            turns.append(_Turn("tool", _joined(item.output), [], [{"tool_call_id": item.call_id}]))
        elif isinstance(item, InputMessage):
            turns.append(_Turn(_ROLES[item.role], _joined(item.content), [], []))
    return tuple(turn.message for turn in turns)


def answered_turn(text: str, native: NativeAnswer | None) -> Message:
    """Return the turn of an answer, as what follows on it has it."""
    if native is None or not native.calls:
        return Message(role="assistant", content=text)
    wire = {"role": "assistant", "content": native.content or None, "tool_calls": list(native.calls)}
    return SentMessage(role="assistant", content=text, wire=wire)


def recalled_turn(turn: Message, key: str, ids: Sequence[str] = ()) -> Message:
    """Return a turn of a record as :func:`turns_of` would, its calls with ids again.

    Args:
        key: What made-up ids hold.
        ids: Those that are known.
    """
    answer = read_answer(turn.content) if turn.role == "assistant" else Answer(turn.content, ())
    if not answer.calls:
        return turn
    known = [*ids[: len(answer.calls)], *(f"call_{key}_{n}" for n in range(len(ids), len(answer.calls)))]
    calls = [_wire_call(id, call.name, call.arguments) for id, call in zip(known, answer.calls, strict=True)]
    wire = {"role": "assistant", "content": answer.text or None, "tool_calls": calls}
    return SentMessage(role="assistant", content=turn.content, wire=wire)


def _wire_call(id: Any, name: str, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def message_item(
    key: str, text: str, *, status: str, logprobs: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return an answer's text as an item.

    Args:
        key: What its id ends with.
        status: ``completed``, or ``incomplete`` where it was cut.
    """
    return {
        "id": f"msg_{key}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [text_part(text, logprobs)],
    }


def refusal_part(refusal: str) -> dict[str, Any]:
    """Return the one part of an answer that was refused."""
    return {"type": "refusal", "refusal": refusal}


def text_part(text: str, logprobs: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the one part of an answer's text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def call_items(calls: Sequence[ToolCall], key: str, *, status: str) -> list[dict[str, Any]]:
    """Return calls as items."""
    return [
        call_item(
            key, number, call["id"], call["function"]["name"], call["function"]["arguments"], status=status
        )
        for number, call in enumerate(wire_calls(calls, key, 0))
    ]


def output_items(
    answer: Answer | NativeAnswer,
    key: str,
    *,
    status: str,
    logprobs: Sequence[Mapping[str, Any]] = (),
    ids: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return an answer as items: its text, unless it is nothing but calls, then its calls.

    Args:
        ids: Those of its calls that are known; of an answer in parts they are its own.
    """
    if isinstance(answer, NativeAnswer):
        return native_items(answer, key, status=status, logprobs=logprobs)
    said = [message_item(key, answer.text, status=status, logprobs=logprobs)]
    calls = call_items(answer.calls, key, status=status)
    for item, id in zip(calls, ids, strict=False):
        item["call_id"] = id
    return [*(said if answer.text or not answer.calls else []), *calls]


def native_items(
    answer: NativeAnswer, key: str, *, status: str, logprobs: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return an answer in parts as items."""
    message = message_item(key, answer.content, status=status, logprobs=logprobs)
    if answer.refusal is not None:
        message["content"] = [*(message["content"] if answer.content else ()), refusal_part(answer.refusal)]
    silent = answer.calls and not answer.content and answer.refusal is None
    calls = [
        call_item(key, number, call["id"], **call["function"], status=status)
        for number, call in enumerate(answer.calls)
    ]
    return [*([] if silent else [message]), *calls]


def call_item(key: str, number: int, id: str, name: str, arguments: str, *, status: str) -> dict[str, Any]:
    """Return a call of an answer as an item."""
    return {
        "id": f"fc_{key}_{number}",
        "type": "function_call",
        "call_id": id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def input_items(turns: Sequence[Message], key: str) -> Iterator[dict[str, Any]]:
    """Yield a stored conversation as items; results name the calls of the turn before, in their order."""
    waiting: list[str] = []
    for number, turn in enumerate(turns):
        own = f"{key}_{number}"
        if turn.role == "assistant":
            items = output_items(read_answer(turn.content), own, status="completed")
            waiting = [item["call_id"] for item in items if item["type"] == "function_call"]
            yield from items
        elif turn.role == "tool":
            yield {
                "id": f"fco_{own}",
                "type": "function_call_output",
                "call_id": waiting.pop(0) if waiting else f"call_{own}",
                "output": turn.content,
                "status": "completed",
            }
        else:
            yield {
                "id": f"msg_{own}",
                "type": "message",
                "role": turn.role,
                "status": "completed",
                "content": [{"type": "input_text", "text": turn.content}],
            }
