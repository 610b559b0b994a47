"""Tools as text: functions, calls and results in words that every chat template can carry.

Chat templates differ in whether and how they write tools. Here functions stand in the system turn and calls
in the assistant's turn, between tags that models of the field and parsers of serving engines know (Hermes'
``<tool_call>``). Rows are trained in exactly the words that serving gives the model and reads back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunery.core.example import Message

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_LIST_OPEN, _LIST_CLOSE = "<tools>", "</tools>"
CLOSING = "</tool"
"""Stands in every turn that calls functions or tells of them; all others are plain text."""
_INTRODUCTION = "These functions can be called:"
_HOW = (
    f'To call one, answer with {OPEN}{{"name": its name, "arguments": an object}}{CLOSE}, '
    "once for each call. Call none that is not needed."
)
_JSON = json.JSONDecoder()
_CUT_CALL = re.compile(re.escape(OPEN) + r'{"name":("(?:[^"\\]|\\.)*"),"arguments":(.*)', re.DOTALL)
_BLANK = re.compile(r"[ \t\n\r]*")
_BEGIN, _END = f"{_INTRODUCTION}\n{_LIST_OPEN}\n", f"\n{_LIST_CLOSE}\n{_HOW}"


class ToolCall(NamedTuple):
    """One call of a function."""

    name: str
    arguments: str
    """A JSON object, compact, keys in the order they were written; of a broken call in a history
    (:func:`said_call`) a JSON string."""


class CallFrame(NamedTuple):
    """What stands around the arguments of a call, between its tags."""

    before: str
    after: str


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
        NotACall: One has no name, or holds half a surrogate pair.

    >>> describe([{"name": "now"}]).splitlines()[2]
    '{"name":"now"}'
    """
    for function in functions:
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise NotACall("each function must be an object with a name")
    lines = "\n".join(_compact(f) for f in functions)
    return f"{_BEGIN}{lines}{_END}"


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
        NotACall: The name is no text, the arguments are no object, or something is half a surrogate pair.
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
    _compact(name)
    return ToolCall(name, _compact(arguments))


def said_call(name: Any, arguments: Any) -> ToolCall:
    """Return a call that stands in the history of a conversation, where models have written broken arguments.

    They are shown to the model as the text that they are, quoted as a JSON string, so that the turn behind
    them, which tells of the failure, makes sense. :func:`read_answer` does not take such a call for one.

    Raises:
        NotACall: The name is no text, or something is half a surrogate pair.

    >>> said_call("look_up", '{"x": ').arguments
    '"{\\"x\\": "'
    """
    if not isinstance(name, str) or not name:
        raise NotACall("a call needs the function's name")
    try:
        call = call_of(name, arguments)
        json.loads(call.arguments, parse_constant=_no_number)
        return call
    except (ValueError, RecursionError):
        _compact(name)
        text = arguments if isinstance(arguments, str) else _compact(arguments)
        return ToolCall(name, _compact(text))


def call_frame(name: str) -> CallFrame:
    """Return what :func:`write_answer` writes around the arguments of a call.

    >>> call_frame("now")
    CallFrame(before='{"name":"now","arguments":', after='}')
    """
    return CallFrame(f'{{"name":{_compact(name)},"arguments":', "}")


def write_answer(text: str, calls: Sequence[ToolCall]) -> str:
    """Return an assistant's turn as text.

    >>> write_answer("", [ToolCall("now", "{}")])
    '<tool_call>{"name":"now","arguments":{}}</tool_call>'
    """
    written = [_tagged(c.arguments.join(call_frame(c.name))) for c in calls]
    return "\n".join([*([text] if text else []), *written])


def _tagged(call: str) -> str:
    for tag in (OPEN, CLOSE):  # inside the JSON of a call a tag can only be part of a string
        call = call.replace(tag, f"\\u003c{tag[1:]}")
    return f"{OPEN}{call}{CLOSE}"


def read_answer(text: str) -> Answer:
    """Return what an assistant's turn says and calls; what only looks like a call stays text.

    >>> read_answer('Wait.\n<tool_call>{"name": "now", "arguments": {}}</tool_call>')
    Answer(text='Wait.', calls=(ToolCall(name='now', arguments='{}'),))
    """
    calls, texts, at = [], [], 0
    begin = text.find(OPEN)
    while begin >= 0:
        try:
            call, end = _call_at(text, begin)
        except (ValueError, AttributeError, RecursionError):
            begin = text.find(OPEN, begin + len(OPEN))
            continue
        calls.append(call)
        texts.append(text[at:begin])
        at, begin = end, text.find(OPEN, end)
    texts.append(text[at:])
    return Answer("".join(texts).rstrip() if calls else text, tuple(calls))


def read_forced(text: str) -> Answer:
    """Return what a turn calls that is nothing but calls, the last perhaps cut off within its arguments.

    Only what :func:`write_answer` writes is understood, and what a grammar of it has held a model to.

    >>> read_forced('<tool_call>{"name":"now","arguments":{"zone":"U').calls
    (ToolCall(name='now', arguments='{"zone":"U'),)
    """
    answer = read_answer(text)
    cut = _CUT_CALL.fullmatch(answer.text.lstrip("\n"))
    if cut is None:
        return answer
    try:
        name = json.loads(cut[1])
    except ValueError:
        return answer
    return Answer("", (*answer.calls, ToolCall(name, cut[2])))


def _call_at(text: str, begin: int) -> tuple[ToolCall, int]:
    """Return the call whose opening tag stands at ``begin``, and where its closing tag ends.

    A tag inside a string of its JSON ends nothing.

    Raises:
        ValueError: There is no call.
    """
    given, end = _JSON.raw_decode(text, _BLANK.match(text, begin + len(OPEN)).end())  # type: ignore[union-attr]
    end = _BLANK.match(text, end).end()  # type: ignore[union-attr]
    if not text.startswith(CLOSE, end):
        raise NotACall("its closing tag is missing")
    return call_of(given.get("name"), given.get("arguments")), end + len(CLOSE)


def words_of(message: Message) -> list[str]:
    """Return the texts of a turn that may be repaired and masked one by one.

    In a turn that calls functions these are what it says and every text and number among the arguments, as
    they are meant, not as JSON writes them; in a system turn that tells of functions, what it says besides.
    """
    if message.role == "system" and _END in message.content:
        return [read_functions(message.content).text]
    if message.role != "assistant" or CLOSE not in message.content:
        return [message.content]
    answer = read_answer(message.content)
    return [answer.text, *(leaf for call in answer.calls for leaf in _leaves(json.loads(call.arguments)))]


def with_words(message: Message, words: Sequence[str]) -> Message:
    """Return a turn with the texts of :func:`words_of` replaced, one for one; calls stay calls."""
    if list(words) == words_of(message):
        return message
    if message.role == "system":
        described = read_functions(message.content)
        rest = message.content[len(described.text) :]
        return message.with_(content=words[0] + rest if words[0] else rest.lstrip("\n"))
    answer = read_answer(message.content) if message.role == "assistant" else Answer(message.content, ())
    left = iter(words[1:])
    calls = [call_of(c.name, _replaced(json.loads(c.arguments), left)) for c in answer.calls]
    return message.with_(content=write_answer(words[0], calls))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)


def _replaced(value: Any, words: Iterator[str]) -> Any:
    """Return JSON with its leaves replaced in order; a number stays one where its text is the same."""
    if isinstance(value, Mapping):
        return {key: _replaced(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, words) for inner in value]
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return value
    word = next(words)
    return value if word == str(value) else word


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
    if not messages[0].content.startswith(_BEGIN):
        return messages
    return (messages[0].with_(content=f"{prompt}\n\n{messages[0].content}"), *messages[1:])


def read_functions(system: str) -> Described:
    """Return a system turn's own text and the functions it tells of; where there are none, all is text."""
    begin = system.rfind(_BEGIN)
    before = system[:begin].removesuffix("\n\n")
    if begin < 0 or not system.endswith(_END) or (begin and before == system[:begin]):
        return Described(system, ())
    try:
        lines = system[begin + len(_BEGIN) : len(system) - len(_END)].split("\n")
        functions = tuple(json.loads(line) for line in lines)
    except (ValueError, RecursionError):
        return Described(system, ())
    if not all(isinstance(f, dict) for f in functions):
        return Described(system, ())
    return Described(before, functions)


def _no_number(name: str) -> float:
    raise NotACall(f"{name} is no number that JSON has")


def _compact(value: Any) -> str:
    """Return JSON without spaces.

    Raises:
        NotACall: It holds half a surrogate pair, which nothing behind here can write, or a number that is
            infinite or none, for which JSON has no word.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False)
    except ValueError:
        raise NotACall("a number is infinite or none; write one that JSON has") from None
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise NotACall("half a surrogate pair; write the whole character") from None
    return text
