"""``POST /chat/completions``: the body, and the answers as one object or as chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tunery.core.engine import Generation, NativePiece, Sampling, TokenEvent
from tunery.core.example import Message, Role, SentMessage
from tunery.core.tool_text import NotACall, ToolCall, describe, with_functions, write_answer
from tunery.serve.openai.tool_calls import (
    CallingBody,
    Offer,
    calls_of,
    message_of,
    native_message,
    wire_calls,
)
from tunery.serve.openai.wire import Harmless, SamplingDefaults, Text, Wire, text_parts, unserved, wrong


class TextPart(Wire):
    """One part of a message; pictures and sound are not served."""

    type: Literal["text"]
    text: Text
    prompt_cache_breakpoint: Harmless = None
    cache_control: Harmless = None
    annotations: Harmless = None


class RefusalPart(Wire):
    """What a model said instead of an answer, sent back in a history."""

    type: Literal["refusal"]
    refusal: Text

    @property
    def text(self) -> str:
        """What it said."""
        return self.refusal


class ChatMessage(Wire):
    """One turn as the client writes it; an assistant's as this or another server may have answered it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[
        Text | list[Annotated[TextPart | RefusalPart, Field(discriminator="type")]] | None,
        text_parts("text", "refusal"),
    ] = None
    tool_calls: list[Any] | None = None
    function_call: Any | None = None
    """Older form of one call."""
    refusal: Text | None = None
    """The turn's text where it has no other."""

    name: Harmless = None
    """Not shown to the model: training passes it over, as chat templates do."""
    tool_call_id: Harmless = None
    """Results are shown in their order."""
    weight: Harmless = None
    """For training."""
    audio: Harmless = None
    annotations: Harmless = None
    parsed: Harmless = None
    reasoning: Harmless = None
    reasoning_content: Harmless = None
    reasoning_details: Harmless = None
    thinking_blocks: Harmless = None
    provider_specific_fields: Harmless = None
    cache_control: Harmless = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self._called and self.role != "assistant":
            raise wrong("tool_calls", "only the assistant calls functions")
        if self.content is None and self.role not in _MAY_BE_SILENT:
            raise wrong("content", "it is missing")
        try:
            calls_of(self._called)
        except NotACall as error:
            raise wrong("tool_calls" if self.tool_calls else "function_call", str(error)) from None
        return self

    @property
    def _called(self) -> list[Any]:
        older = [{"function": self.function_call}] if self.function_call is not None else []
        return [*(self.tool_calls or ()), *older]

    @property
    def turn(self) -> Message:
        """The turn, with what it holds besides its text for servers that read that."""
        role = ROLES.get(self.role, self.role)
        if isinstance(self.content, str) and self.model_fields_set <= _PLAIN:
            return Message(role=role, content=self.text)
        wire = self.model_dump(include=_WIRE, exclude_none=True)
        wire |= {"role": self.role if self.role == "function" else role, "content": wire.get("content")}
        return SentMessage(role=role, content=self.text, wire=wire)

    @property
    def text(self) -> str:
        """The turn's text, calls included; parts are joined as training joins them."""
        parts = [self.content] if isinstance(self.content, str) else [p.text for p in self.content or ()]
        return write_answer("".join(parts) or self.refusal or "", calls_of(self._called))


_PLAIN = {"role", "content"}
_WIRE = {"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal"}
"""What of a turn a server of chat completions reads."""
_MAY_BE_SILENT = ("assistant", "tool", "function")
"""An assistant that has called no function and said nothing has answered so here, and comes back."""
ROLES: dict[str, Role] = {"developer": "system", "function": "tool"}
"""What OpenAI's other roles mean."""


class ChatBody(CallingBody):
    """A chat completion request."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2_000)]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    functions: Annotated[Any, unserved([])] = None
    function_call: Annotated[Any, unserved("none", "auto")] = None
    audio: Annotated[Any, unserved()] = None
    modalities: Annotated[Any, unserved(["text"])] = None
    moderation: Annotated[Any, unserved()] = None
    prediction: Harmless = None
    """Makes other servers quicker and changes no answer."""
    reasoning_effort: Annotated[Any, unserved("none")] = None
    verbosity: Annotated[Any, unserved("medium")] = None
    web_search_options: Annotated[Any, unserved()] = None
    # vLLM's
    add_generation_prompt: Annotated[Any, unserved(True)] = None
    continue_final_message: Annotated[Any, unserved(False)] = None
    chat_template: Annotated[Any, unserved()] = None
    chat_template_kwargs: Annotated[Any, unserved({}, {"enable_thinking": False})] = None
    documents: Annotated[Any, unserved([])] = None
    mm_processor_kwargs: Annotated[Any, unserved({})] = None
    echo: Annotated[Any, unserved(False)] = None
    best_of: Annotated[Any, unserved(1)] = None
    include_reasoning: Harmless = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise wrong("top_logprobs", "needs logprobs: true")
        return self

    def turns(self) -> tuple[Message, ...]:
        """Return the conversation, functions described in the system turn; ``developer`` means ``system``."""
        turns = tuple(m.turn for m in self.messages)
        functions = self.offer.functions
        return with_functions(turns, describe(functions)) if functions else turns

    def how(self, defaults: SamplingDefaults) -> Sampling:
        """Return the sampling this body requests."""
        return self.sampling(
            defaults,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


class Head(NamedTuple):
    """What every object about one completion carries."""

    id: str
    created: int
    """Unix seconds."""
    model: str
    """What answered."""


def usage_of(generations: Sequence[Generation], *, prompts: int = 1) -> dict[str, Any]:
    """Return OpenAI's token counts; ``n`` choices of one prompt count its tokens once.

    Args:
        generations: Finished completions, those of one prompt side by side.
        prompts: Prompts they belong to [count]; each has equally many.
    """
    per_prompt = max(1, len(generations) // max(1, prompts))
    firsts = generations[::per_prompt]
    prompt_tokens = sum(g.prompt_tokens for g in firsts)
    completion_tokens = sum(g.completion_tokens for g in generations)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(g.cached_tokens for g in firsts)},
    }


def completion_of(
    head: Head,
    generations: Sequence[Generation],
    *,
    logprobs: bool,
    offer: Offer | None = None,
) -> dict[str, Any]:
    """Return a whole ``chat.completion``.

    Args:
        offer: Which functions answers may call; None where they are not looked at for calls.
    """
    choices = []
    for index, generation in enumerate(generations):
        message: dict[str, Any] = {"role": "assistant", "content": generation.text, "refusal": None}
        if generation.native is not None:
            message = native_message(generation.native)
        elif offer is not None:
            message = message_of(generation.text, head.id, index, offer=offer)
        choices.append(
            {
                "index": index,
                "message": message,
                "finish_reason": finish_reason(generation, called="tool_calls" in message),
                "logprobs": logprobs_of(generation.tokens) if logprobs else None,
            }
        )
    return {**_object(head, "chat.completion"), "choices": choices, "usage": usage_of(generations)}


def first_chunk(head: Head, index: int) -> dict[str, Any]:
    """Return the chunk that opens a choice with its role."""
    return _chunk(head, index, {"role": "assistant", "content": ""})


def text_chunk(head: Head, index: int, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    """Return a chunk of text."""
    return _chunk(head, index, {"content": text}, logprobs=logprobs)


def calls_chunk(head: Head, index: int, calls: Sequence[ToolCall]) -> dict[str, Any]:
    """Return the chunk with the functions that a choice calls."""
    numbered = [{"index": i, **call} for i, call in enumerate(wire_calls(calls, head.id, index))]
    return _chunk(head, index, {"tool_calls": numbered})


def native_chunk(head: Head, index: int, piece: NativePiece) -> dict[str, Any]:
    """Return a chunk with what a server of chat completions streamed besides text."""
    delta: dict[str, Any] = {"refusal": piece.refusal} if piece.refusal else {}
    if piece.calls:
        delta["tool_calls"] = list(piece.calls)
    return _chunk(head, index, delta)


def last_chunk(head: Head, index: int, generation: Generation, *, called: bool = False) -> dict[str, Any]:
    """Return the chunk that closes a choice."""
    return _chunk(head, index, {}, reason=finish_reason(generation, called=called))


def usage_chunk(head: Head, generations: Sequence[Generation]) -> dict[str, Any]:
    """Return the chunk that ``stream_options.include_usage`` asks for: no choices, true counts."""
    return {**_object(head, "chat.completion.chunk"), "choices": [], "usage": usage_of(generations)}


def logprobs_of(tokens: Sequence[TokenEvent]) -> dict[str, Any]:
    """Return the ``logprobs`` object of a choice or a chunk.

    ``bytes`` are each token's own, so that a client can join a character that is spread over several; a
    special token, which is left out of the text, has none.
    """
    return {
        "content": [
            {
                **_token(event.token, event.raw, event.logprob),
                "top_logprobs": [_token(t.token, t.raw, t.logprob) for t in event.top],
            }
            for event in tokens
        ],
        "refusal": None,
    }


def finish_reason(generation: Generation, *, called: bool = False) -> str:
    """Return OpenAI's word, which for a cancelled completion is that of one cut at its limit."""
    if generation.native is not None:
        return generation.native.finish_reason
    if called and generation.finish_reason == "stop":
        return "tool_calls"
    return "length" if generation.finish_reason == "cancelled" else generation.finish_reason


def _token(name: str, raw: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": written(name, raw), "logprob": floored(logprob), "bytes": list(raw)}


def written(name: str, raw: bytes, *, mark: str = "") -> str:
    r"""Return a token as text: part of a character as its bytes, behind ``mark``, so that none look alike.

    >>> written("\ufffd", b"\xf0\x9f", mark="bytes:")
    'bytes:\\xf0\\x9f'
    """
    try:
        return raw.decode("utf-8") or name
    except UnicodeDecodeError:
        return mark + "".join(f"\\x{byte:02x}" for byte in raw)


def floored(logprob: float | None) -> float:
    """Return a log-probability as JSON can hold it: OpenAI writes -9999.0 for 'very unlikely'."""
    return -9999.0 if logprob is None else max(logprob, -9999.0)


def _object(head: Head, kind: str) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "system_fingerprint": None,
    }


def _chunk(
    head: Head,
    index: int,
    delta: dict[str, Any],
    *,
    reason: str | None = None,
    logprobs: dict[str, Any] | None = None,
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
    return {**_object(head, "chat.completion.chunk"), "choices": [choice]}
