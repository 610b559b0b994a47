"""Tool calls on the wire: what a request offers, and what an answer calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from tunery.core.engine import Calls, Constraint, NativeAnswer
from tunery.core.tool_text import (
    OPEN,
    Answer,
    NotACall,
    ToolCall,
    describe,
    functions_of,
    read_answer,
    read_forced,
    said_call,
)
from tunery.serve.openai.wire import GenerationBody, ResponseFormat, Text, Wire, wrong


def calls_of(tool_calls: Sequence[Any]) -> list[ToolCall]:
    """Return the calls of an assistant's turn that a client sends back; broken arguments as their text.

    Raises:
        ValueError: One has no function's name; says how it must be.
    """
    found = []
    for call in tool_calls:
        inner = call.get("function") if isinstance(call, dict) else None
        custom = call.get("custom") if isinstance(call, dict) else None
        if isinstance(inner, dict):
            found.append(said_call(inner.get("name"), inner.get("arguments")))
        elif isinstance(custom, dict):
            found.append(said_call(custom.get("name"), custom.get("input")))
        else:
            raise NotACall("each of tool_calls must be {id, type: function, function: {name, arguments}}")
    return found


_TOOL_KEYS = {"type", "function", "cache_control", "defer_loading"}
_FUNCTION_KEYS = {"type", "name", "description", "parameters", "strict", "cache_control"}


def known_tools(tools: list[Any]) -> list[Any]:
    """Return tools that are functions with a schema that can be followed.

    Raises:
        ValueError: They are none, or one has a part that nothing here reads; names it.
    """
    names = set()
    for place, (tool, function) in enumerate(zip(tools, functions_of(tools), strict=True)):
        known = _TOOL_KEYS if tool is not function else _FUNCTION_KEYS
        unknown = [k for k in tool if k not in known] + [k for k in function if k not in _FUNCTION_KEYS]
        if unknown:
            raise NotACall(f"unknown parameter {', '.join(map(repr, unknown)):.80} of tool {place}")
        if function["name"] in names:
            raise NotACall(f"two functions are called {function['name']!r:.80}")
        names.add(function["name"])
        _arguments_schema(function)
    return tools


def _arguments_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a function's arguments; any object where it states none."""
    given = function.get("parameters")
    if given is None:
        return {"type": "object"}
    if not isinstance(given, dict) or given.get("type", "object") != "object":
        raise NotACall(f"parameters of function {function['name']!r:.80} must be a JSON Schema of an object")
    return given if "$ref" in given else {"type": "object", **given}


def _followed(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema that a call's arguments are held to."""
    schema = _arguments_schema(function)
    together = any(part in describe([function]) for part in _PARTS)
    return schema if together else dict(_closed(schema))


def _closed(schema: Any) -> Any:
    """Return a schema whose objects have the properties that they declare and no others, unless it says so.

    A function that declares its arguments fails on others, and small models invent them. A schema of parts
    that hold together (``allOf`` and the like) stays as it is: closed, its parts would exclude each other.
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for key in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            closed[key] = {name: _closed(inner) for name, inner in schema[key].items()}
    if isinstance(schema.get("items"), dict):
        closed["items"] = _closed(schema["items"])
    if "properties" in schema and not _OPEN_KEYS & schema.keys():
        closed["additionalProperties"] = False
    return closed


_OPEN_KEYS = frozenset(
    {"additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref"}
)
_PARTS = ('"allOf"', '"unevaluatedProperties"')


class AllowedTools(Wire):
    """OpenAI's ``allowed_tools``: a part of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[Any], Field(min_length=1)]


class NamedFunction(Wire):
    """A function by its name."""

    name: Text


class NamedChoice(Wire):
    """A ``tool_choice`` that is an object."""

    type: Literal["function", "allowed_tools"]
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="after")
    def _has_its_part(self) -> Self:
        if getattr(self, self.type) is None:
            raise ValueError(f"{self.type} is missing")
        return self

    @property
    def forces(self) -> bool:
        """Whether one of them must be called."""
        return self.allowed_tools is None or self.allowed_tools.mode == "required"

    @property
    def names(self) -> list[Any]:
        """Functions that it leaves."""
        if self.function is not None:
            return [self.function.name]
        return [f.get("name") for f in functions_of(self.allowed_tools.tools)] if self.allowed_tools else []


ToolChoice = Literal["none", "auto", "required"] | NamedChoice | None


class Offer(NamedTuple):
    """Which functions an answer may or must call."""

    functions: tuple[Mapping[str, Any], ...]
    """All that the prompt describes; none where the client forbids calls."""
    allowed: tuple[Mapping[str, Any], ...]
    """Those of them that may be called."""
    required: bool
    parallel: bool

    @classmethod
    def of(cls, tools: list[Any] | None, choice: ToolChoice, *, parallel: bool) -> Offer:
        """Return what a request offers.

        Raises:
            NotACall: A call is demanded, and there is no such function.
        """
        functions = tuple(functions_of(tools or []))
        if isinstance(choice, NamedChoice):
            known = {f["name"]: f for f in functions}
            names = choice.names
            missing = [name for name in names if name not in known]
            if missing:
                raise NotACall(f"names {missing[0]!r:.80}, which is not among tools")
            allowed = tuple(known[n] for n in dict.fromkeys(names))
            return cls(functions, allowed, choice.forces, parallel)
        if choice == "required" and not functions:
            raise NotACall("a call is required, and there are no tools")
        if choice == "none":
            functions = ()
        return cls(functions, functions, choice == "required", parallel)

    def read(self, text: str) -> Answer:
        """Return what an answer says and calls, one function alone unless several are welcome.

        A call that was demanded and cut off at the limit of tokens is told as far as it came.
        """
        answer = read_forced(text) if self.required else read_answer(text)
        return answer if self.parallel else Answer(answer.text, answer.calls[:1])

    def constraint(self, form: Constraint | None) -> Constraint | None:
        """Return what an answer is held to, given the form of one that calls nothing.

        A free choice among functions that promise no schema leaves the model alone.

        Raises:
            NotACall: The form does not go together with calls.
        """
        strict = any(f.get("strict") for f in self.allowed) or self.allowed != self.functions
        if not self.functions or not (self.required or form is not None or strict):
            return form
        without_calls = form is not None and (form.regex is not None or form.grammar is not None)
        if without_calls and not self.required:
            raise NotACall("must be none or required where a regex or a grammar is given")
        functions = tuple(
            (f["name"], _followed(f) if self.required or f.get("strict") else {"type": "object"})
            for f in self.allowed
        )
        calls = Calls(functions, required=self.required, parallel=self.parallel)
        base = Constraint(field="tools") if form is None or self.required else form
        return replace(base, calls=calls)


class CallingBody(GenerationBody):
    """A body whose answer may call functions."""

    tools: Annotated[list[Any], AfterValidator(known_tools)] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _can_be_called(self) -> Self:
        try:
            self.offer.constraint(super().constraint())
        except NotACall as error:
            raise wrong("tool_choice", str(error)) from None
        return self

    @property
    def offer(self) -> Offer:
        """Which functions the answer may or must call."""
        return Offer.of(self.tools, self.tool_choice, parallel=self.parallel_tool_calls is not False)

    @property
    def may_call(self) -> bool:
        """Whether the answer is looked at for calls of functions."""
        return bool(self.offer.functions)

    def constraint(self) -> Constraint | None:
        """Return what the completion must be, None for free text."""
        return self.offer.constraint(super().constraint())

    def chat(self) -> dict[str, Any] | None:
        """Return the fields that a server of chat completions reads itself; None where there are none.

        As :attr:`tunery.core.engine.GenerationRequest.chat`.
        """
        found: dict[str, Any] = {}
        if self.tools:
            found["tools"] = [
                tool if "function" in tool else {"type": "function", "function": tool} for tool in self.tools
            ]
            choice, parallel = self.tool_choice, self.parallel_tool_calls
            if choice is not None:
                named = choice.model_dump(exclude_none=True) if isinstance(choice, NamedChoice) else choice
                found["tool_choice"] = named
            found |= {} if parallel is None else {"parallel_tool_calls": parallel}
        if (form := self.wire_format) is not None:
            found["response_format"] = form.model_dump(by_alias=True, exclude_none=True)
        return found or None

    @property
    def wire_format(self) -> ResponseFormat | None:
        """The response format, as chat completions have it."""
        return self.response_format


def message_of(text: str, head_id: str, index: int, *, offer: Offer) -> dict[str, Any]:
    """Return the ``message`` of a choice that may call functions."""
    answer = offer.read(text)
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None}
    if answer.calls:
        message["tool_calls"] = wire_calls(answer.calls, head_id, index)
    return message


def native_message(answer: NativeAnswer) -> dict[str, Any]:
    """Return the ``message`` of a choice that a server of chat completions gave."""
    silent = bool(answer.calls) or answer.refusal is not None
    message: dict[str, Any] = {
        "role": "assistant",
        "content": (answer.content or None) if silent else answer.content,
        "refusal": answer.refusal,
    }
    if answer.calls:
        message["tool_calls"] = list(answer.calls)
    return message


def wire_calls(calls: Sequence[ToolCall], head_id: str, index: int) -> list[dict[str, Any]]:
    """Return calls as OpenAI writes them, with ids that differ within a request and between requests."""
    return [
        {
            "id": f"call_{head_id.rpartition('-')[2]}_{index}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(calls)
    ]


class CallWatch:
    """Holds back the part of a streamed text that may turn out to be calls.

    Args:
        read: Reads that part in the end.
    """

    def __init__(self, read: Callable[[str], Answer] = read_answer) -> None:
        self._held = ""
        self._read = read

    def feed(self, text: str) -> str:
        """Take a piece of text and return what can be sent: everything before a call begins.

        >>> watch = CallWatch()
        >>> watch.feed("Let me see <tool"), watch.feed("box>."), watch.feed("<tool_call>{")
        ('Let me see', ' <toolbox>.', '')
        """
        self._held += text
        begin = self._held.find(OPEN)
        if begin < 0:
            # The longest end that could be the beginning of a call, with the space before it.
            begin = next(
                (len(self._held) - n for n in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:n])),
                len(self._held),
            )
        begin = len(self._held[:begin].rstrip())
        sent, self._held = self._held[:begin], self._held[begin:]
        return sent

    def end(self) -> Answer:
        """Return what is left: text that was no call after all or stands behind one, and calls."""
        left, self._held = self._read(self._held), ""
        return left
