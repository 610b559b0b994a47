"""``POST /responses``: the body, and the answer as one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from tunery.core.engine import Constraint, Generation, Sampling
from tunery.core.example import Message
from tunery.core.rollout import CALL_IDS
from tunery.core.tool_text import describe, read_functions, with_functions
from tunery.serve.openai.chat import Head
from tunery.serve.openai.response_items import MAX_ITEMS, Item, read_items, turns_of
from tunery.serve.openai.tool_calls import CallingBody, NamedChoice, ToolChoice, known_tools
from tunery.serve.openai.wire import (
    Harmless,
    JsonSchema,
    Name,
    ResponseFormat,
    SamplingDefaults,
    Schema,
    Text,
    Wire,
    unserved,
    wrong,
)

LOGPROBS = "message.output_text.logprobs"
Status = Literal["completed", "incomplete", "failed", "cancelled", "in_progress"]
FirstTurn = Literal["instructions", "input"]


class TextFormat(Wire):
    """Text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = None
    description: Text | None = None
    """Not shown to the model here: training shows it no schema either."""
    strict: bool | None = None
    """A schema is always followed."""
    schema_: Schema | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _schema_present(self) -> Self:
        if self.type == "json_schema" and self.schema_ is None:
            raise wrong("schema", "it is missing")
        return self

    def constraint(self) -> Constraint | None:
        """Return what it holds an answer to, None for any text."""
        inner = JsonSchema(schema=self.schema_) if self.type == "json_schema" else None
        return ResponseFormat(type=self.type, json_schema=inner).constraint()


class TextConfig(Wire):
    """Which form the text of an answer has."""

    format: TextFormat | None = None
    verbosity: Annotated[Any, unserved("medium")] = None


def _functions(tools: Any) -> Any:
    """Return tools as chat writes them: here a function's fields stand beside its type.

    Raises:
        ValueError: One is no function.
    """
    if not isinstance(tools, list):
        return tools
    found = []
    for place, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind != "function":
            raise ValueError(f"tool {place} of type {kind!r:.40} is not served here; only functions are")
        order = ("name", "description", "parameters", "strict")
        fields = {n: tool[n] for n in order if tool.get(n) is not None}
        more = {n: v for n, v in tool.items() if n not in (*order, "type") and v not in (None, False)}
        found.append({"type": "function", "function": {**fields, **more}})
    return found


def _choice(given: Any) -> Any:
    """Return a choice of tools as chat writes it."""
    if not isinstance(given, dict) or "function" in given:
        return given
    rest = {name: value for name, value in given.items() if name != "type"}
    return {"type": given.get("type"), str(given.get("type")): rest} if rest else given


class ResponsesBody(CallingBody):
    """A request for a response."""

    input: Annotated[
        Text | Annotated[list[Any], Field(max_length=MAX_ITEMS)],
        AfterValidator(read_items),
    ]
    instructions: Text | None = None
    """The system turn of this answer alone: what follows on it does not inherit it."""
    previous_response_id: Annotated[Name, StringConstraints(min_length=1, max_length=128)] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    text: TextConfig | None = None
    include: Annotated[list[Text], Field(max_length=32)] | None = None
    """Log-probabilities, by :data:`LOGPROBS`; what else can be named belongs to tools that are not served."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: Annotated[list[Any], BeforeValidator(_functions), AfterValidator(known_tools)] | None = None
    tool_choice: Annotated[ToolChoice, BeforeValidator(_choice)] = None

    n: Annotated[Any, unserved(1)] = None
    response_format: Annotated[Any, unserved()] = None
    access_programs: Annotated[Any, unserved()] = None
    background: Annotated[Any, unserved(False)] = None
    background_options: Annotated[Any, unserved()] = None
    context_management: Annotated[Any, unserved([])] = None
    conversation: Annotated[Any, unserved()] = None
    image: Annotated[Any, unserved()] = None
    moderation: Annotated[Any, unserved()] = None
    prompt: Annotated[Any, unserved()] = None
    reasoning: Annotated[Any, unserved({}, {"effort": "none"})] = None
    truncation: Literal["auto", "disabled"] | None = None
    """``auto`` leaves out the first turns of a conversation that does not fit, instructions apart."""
    max_tool_calls: Harmless = None
    """Bounds tools of OpenAI's own."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.top_logprobs and LOGPROBS not in (self.include or ()):
            raise wrong("top_logprobs", f'needs include: ["{LOGPROBS}"]')
        if not self.items and self.previous_response_id is None:
            raise wrong("input", "it is empty")
        return self

    @property
    def items(self) -> Sequence[Item]:
        """The input, item by item."""
        found: Any = self.input
        return found  # type: ignore[no-any-return]  # as read_items returned it

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer tells of likelihoods."""
        return LOGPROBS in (self.include or ())

    def how(self, defaults: SamplingDefaults) -> Sampling:
        """Return the sampling this body requests."""
        return self.sampling(
            defaults,
            max_tokens=self.max_output_tokens,
            logprobs=(self.top_logprobs or 0) if self.wants_logprobs else None,
        )

    @property
    def wire_format(self) -> ResponseFormat | None:
        """The form of the text, as chat completions have it."""
        form = self.text.format if self.text else None
        if form is None:
            return None
        inner = form.model_dump(include={"name", "description", "strict"}, exclude_none=True)
        schema = JsonSchema.model_validate({**inner, "schema": form.schema_}) if form.schema_ else None
        return ResponseFormat(type=form.type, json_schema=schema)

    def _forms(self) -> dict[str, Constraint]:
        form = self.text.format.constraint() if self.text and self.text.format else None
        own = {"text.format": replace(form, field="text.format")} if form is not None else {}
        return own | super()._forms()

    def carried(self, history: Sequence[Message]) -> tuple[Message, ...]:
        """Return the turns that a later response follows on: those before and the input."""
        return (*history, *turns_of(self.items))

    def turns(self, carried: Sequence[Message]) -> tuple[Message, ...]:
        """Return the conversation that is answered: instructions first, functions described in them."""
        first = [Message(role="system", content=self.instructions)] if self.instructions else []
        functions = self.offer.functions
        turns = (*first, *carried)
        return with_functions(turns, describe(functions)) if functions else turns

    def settings(self, sampling: Sampling, carried: Sequence[Message]) -> dict[str, Any]:
        """Return what the response's object repeats of the request, for its record."""
        written: FirstTurn | None = None
        if self.instructions:
            written = "instructions"
        elif carried and carried[0].role == "system":
            written = "input"
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_output_tokens": self.max_output_tokens,
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "tool_choice": _written_choice(self.tool_choice),
            "text": _written_text(self.text),
            "top_logprobs": self.top_logprobs or 0,
            "truncation": self.truncation or "disabled",
            "previous_response_id": self.previous_response_id,
            "user": self.user,
            "safety_identifier": self.safety_identifier,
            "first_turn": written,
        }


class InputTokensBody(ResponsesBody):
    """A request whose tokens are to be counted; what would be answered does not matter."""

    model: Annotated[Name, StringConstraints(min_length=1, max_length=512)] | None = None  # type: ignore[assignment]
    """Left out, the base."""
    personality: Annotated[Any, unserved()] = None


def _written_choice(choice: ToolChoice) -> Any:
    if not isinstance(choice, NamedChoice):
        return choice or "auto"
    if choice.function is not None:
        return {"type": "function", "name": choice.function.name}
    allowed = choice.allowed_tools
    return {
        "type": "allowed_tools",
        "mode": "required" if choice.forces else "auto",
        "tools": allowed.tools if allowed else [],
    }


def _written_text(text: TextConfig | None) -> dict[str, Any]:
    if text is None or text.format is None:
        return {"format": {"type": "text"}}
    return {"format": text.format.model_dump(mode="json", by_alias=True, exclude_none=True)}


class StoredTurns(NamedTuple):
    """The conversation of a record, taken apart."""

    instructions: str | None
    functions: tuple[Mapping[str, Any], ...]
    carried: tuple[Message, ...]
    """What a response that follows on it inherits, its answer aside."""


def stored_turns(messages: Sequence[Message], first_turn: FirstTurn | None) -> StoredTurns:
    """Take a stored conversation apart: its first turn may be the client's, the version's or functions."""
    if not messages or messages[0].role != "system":
        return StoredTurns(None, (), tuple(messages))
    described = read_functions(messages[0].content)
    rest = tuple(messages[1:])
    if first_turn == "input":
        return StoredTurns(None, described.functions, (messages[0].with_(content=described.text), *rest))
    own = described.text if first_turn == "instructions" else None
    return StoredTurns(own, described.functions, rest)


class Echo(NamedTuple):
    """What a response's object repeats of its request."""

    settings: Mapping[str, Any]
    """As :meth:`ResponsesBody.settings` returns them."""
    instructions: str | None
    functions: Sequence[Mapping[str, Any]]
    metadata: Mapping[str, str]
    store: bool


_OF_THE_RECORD = ("first_turn", CALL_IDS)


def response_object(
    head: Head,
    echo: Echo,
    *,
    status: Status,
    output: Sequence[Mapping[str, Any]] = (),
    usage: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a ``response``."""
    repeated = {name: value for name, value in echo.settings.items() if name not in _OF_THE_RECORD}
    return {
        "id": head.id,
        "object": "response",
        "created_at": head.created,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": echo.instructions,
        "model": head.model,
        "output": list(output),
        "tools": [{"type": "function", "parameters": None, "strict": None, **f} for f in echo.functions],
        "metadata": dict(echo.metadata),
        "store": echo.store,
        "usage": usage,
        **repeated,
    }


def status_of(generation: Generation) -> Status:
    """Return how an answer ended."""
    return "completed" if generation.finish_reason == "stop" else "incomplete"


def usage_of(prompt: int, completion: int, *, cached: int = 0) -> dict[str, Any]:
    """Return token counts in the words of responses."""
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }


def response_key(id: str) -> str:
    """Return what tells a response's items from those of others.

    >>> response_key("resp_0123")
    '0123'
    """
    return id.removeprefix("resp_")
