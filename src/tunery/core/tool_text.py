"""Tools as text: functions, calls and results in words that every chat template can carry.

Chat templates differ in whether and how they write tools. Here functions stand in the system turn and calls
in the assistant's turn, between tags that models of the field and parsers of serving engines know (Hermes'
``<tool_call>``). Rows are trained in exactly the words that serving gives the model and reads back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.example import Message

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_LIST_OPEN, _LIST_CLOSE = "<tools>", "</tools>"
_INTRODUCTION = "These functions can be called:"
_HOW = (
    f'To call one, answer with {OPEN}{{"name": its name, "arguments": an object}}{CLOSE}, '
    "once for each call. Call none that is not needed."
)
_CALL = re.compile(rf"{OPEN}\s*(.*?)\s*{CLOSE}", re.DOTALL)
_DESCRIBED = re.compile(
    rf"(?:(?P<before>.*)\n\n)?{re.escape(_INTRODUCTION)}\n{_LIST_OPEN}\n(?P<tools>.*)\n{_LIST_CLOSE}\n{re.escape(_HOW)}",
    re.DOTALL,
)
_BARE_MASK = re.compile(r"(?<=[:\[,])\s*(<[A-Z_]+>)(?=\s*[,}\]])")


class ToolCall(NamedTuple):
    """One call of a function."""

    name: str
    arguments: str
    """A JSON object, compact, keys in the order they were written."""


class Answer(NamedTuple):
    """What an assistant's turn says and calls."""

    text: str
    calls: tuple[ToolCall, ...]


class Described(NamedTuple):
    """A system turn taken apart."""

    text: str
    """What it says besides."""
    functions: tuple[dict[str, Any], ...]


class NotACall(ValueError):  # noqa: N818 - the message says what is wrong with it
    """What was given as a function or a call is none."""


def describe(functions: Sequence[Mapping[str, Any]]) -> str:
    """Return the text that tells a model of functions.

    Args:
        functions: Objects with ``name`` and, mostly, ``description`` and ``parameters``.

    Raises:
        NotACall: One has no name.

    >>> describe([{"name": "now"}]).splitlines()[2]
    '{"name":"now"}'
    """
    for function in functions:
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise NotACall("each function must be an object with a name")
    lines = "\n".join(_compact(f) for f in functions)
    return f"{_INTRODUCTION}\n{_LIST_OPEN}\n{lines}\n{_LIST_CLOSE}\n{_HOW}"


def functions_of(tools: Any) -> list[Mapping[str, Any]]:
    """Return the functions of OpenAI's ``tools`` or, older, ``functions``.

    Raises:
        NotACall: It is no list of them; says what is expected.
    """
    if not isinstance(tools, list):
        raise NotACall("must be a list of {type: function, function: {name, …}} objects")
    found = []
    for tool in tools:
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(inner, Mapping) or tool.get("type", "function") != "function":
            raise NotACall("only tools of type function are known")
        found.append(inner)
    describe(found)
    return found


def call_of(name: Any, arguments: Any) -> ToolCall:
    """Return a call; arguments may be an object or the JSON of one.

    Raises:
        NotACall: The name is no text, or the arguments are no object.
    """
    if not isinstance(name, str) or not name:
        raise NotACall("a call needs the function's name")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise NotACall("arguments must be the JSON of an object") from None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise NotACall("arguments must be an object")
    return ToolCall(name, _compact(arguments))


def write_answer(text: str, calls: Sequence[ToolCall]) -> str:
    """Return an assistant's turn as text.

    >>> write_answer("", [ToolCall("now", "{}")])
    '<tool_call>{"name":"now","arguments":{}}</tool_call>'
    """
    written = [f'{OPEN}{{"name":{_compact(c.name)},"arguments":{c.arguments}}}{CLOSE}' for c in calls]
    return "\n".join([*([text] if text else []), *written])


def read_answer(text: str) -> Answer:
    """Return what an assistant's turn says and calls; what only looks like a call stays text.

    >>> read_answer('Wait.\\n<tool_call>{"name": "now", "arguments": {}}</tool_call>')
    Answer(text='Wait.', calls=(ToolCall(name='now', arguments='{}'),))
    """
    calls: list[ToolCall] = []

    def taken(match: re.Match[str]) -> str:
        try:
            said = json.loads(match[1])
            calls.append(call_of(said.get("name"), said.get("arguments")))
        except (ValueError, AttributeError, RecursionError):
            return match[0]
        return ""

    rest = _CALL.sub(taken, text)
    return Answer(rest.strip() if calls else text, tuple(calls))


def mended(text: str) -> str:
    """Return an assistant's turn whose calls are JSON again where masking put a bare placeholder into them.

    >>> mended('<tool_call>{"name":"ring","arguments":{"number":<PHONE_NUMBER>}}</tool_call>')
    '<tool_call>{"name":"ring","arguments":{"number":"<PHONE_NUMBER>"}}</tool_call>'
    """
    return _CALL.sub(lambda call: _BARE_MASK.sub(r'"\1"', call[0]), text) if OPEN in text else text


def with_functions(messages: tuple[Message, ...], described: str) -> tuple[Message, ...]:
    """Return a conversation whose system turn ends with the description of functions."""
    if messages and messages[0].role == "system":
        head = messages[0].with_(content=f"{messages[0].content}\n\n{described}")
        return (head, *messages[1:])
    return (Message(role="system", content=described), *messages)


def with_system_prompt(messages: tuple[Message, ...], prompt: str | None) -> tuple[Message, ...]:
    """Return a conversation with a system prompt, where it has none of its own.

    A system turn that only tells of functions is none of its own: the prompt goes before it.
    """
    if not prompt:
        return messages
    if not messages or messages[0].role != "system":
        return (Message(role="system", content=prompt), *messages)
    if not messages[0].content.startswith(f"{_INTRODUCTION}\n{_LIST_OPEN}\n"):
        return messages
    return (messages[0].with_(content=f"{prompt}\n\n{messages[0].content}"), *messages[1:])


def read_functions(system: str) -> Described:
    """Return a system turn's own text and the functions it tells of; where there are none, all is text."""
    found = _DESCRIBED.fullmatch(system)
    if found is None:
        return Described(system, ())
    try:
        functions = tuple(json.loads(line) for line in found["tools"].split("\n"))
    except ValueError:
        return Described(system, ())
    if not all(isinstance(f, dict) for f in functions):
        return Described(system, ())
    return Described(found["before"] or "", functions)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
