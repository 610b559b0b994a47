"""``POST /chat/completions``: the body, and the answers as one object or as chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tunery.core.engine import Generation, Sampling, TokenEvent
from tunery.core.example import Message
from tunery.core.tool_text import ToolCall, describe, with_functions, write_answer
from tunery.serve.openai.tool_calls import calls_of, message_of, offered, wire_calls
from tunery.serve.openai.wire import GenerationBody, SamplingDefaults, Text, Wire

Decode = Callable[[Sequence[int]], str]
"""Token ids to text."""


class TextPart(Wire):
    """One part of a message; pictures and sound are not served."""

    type: Literal["text"]
    text: Text


class ChatMessage(Wire):
    """One turn as the client writes it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    tool_calls: list[Any] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant calls functions")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        calls_of(self.tool_calls)
        return self

    @property
    def text(self) -> str:
        """The turn's text, calls included; parts are joined by line breaks."""
        parts = [self.content] if isinstance(self.content, str) else [p.text for p in self.content or ()]
        return write_answer("\n".join(parts), calls_of(self.tool_calls))


class ChatBody(GenerationBody):
    """A chat completion request."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2_000)]
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[Any] | None = None
    tool_choice: Any | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if offered(self.tools, self.tool_choice) and self.constraint() is not None:
            raise ValueError("give tools or a fixed form of answer, not both")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    def turns(self) -> tuple[Message, ...]:
        """Return the conversation, functions described in the system turn; ``developer`` means ``system``."""
        turns = tuple(
            Message(role="system" if m.role == "developer" else m.role, content=m.text) for m in self.messages
        )
        functions = offered(self.tools, self.tool_choice)
        return with_functions(turns, describe(functions)) if functions else turns

    @property
    def may_call(self) -> bool:
        """Whether the answer is looked at for calls of functions."""
        return bool(offered(self.tools, self.tool_choice))

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
    head: Head, generations: Sequence[Generation], *, decode: Decode, logprobs: bool, may_call: bool = False
) -> dict[str, Any]:
    """Return a whole ``chat.completion``."""
    choices = []
    for index, generation in enumerate(generations):
        message: dict[str, Any] = {"role": "assistant", "content": generation.text, "refusal": None}
        if may_call:
            message = message_of(generation.text, head.id, index)
        choices.append(
            {
                "index": index,
                "message": message,
                "finish_reason": finish_reason(generation, called="tool_calls" in message),
                "logprobs": logprobs_of(generation.tokens, decode) if logprobs else None,
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


def last_chunk(head: Head, index: int, generation: Generation, *, called: bool = False) -> dict[str, Any]:
    """Return the chunk that closes a choice."""
    return _chunk(head, index, {}, reason=finish_reason(generation, called=called))


def usage_chunk(head: Head, generations: Sequence[Generation]) -> dict[str, Any]:
    """Return the chunk that ``stream_options.include_usage`` asks for: no choices, true counts."""
    return {**_object(head, "chat.completion.chunk"), "choices": [], "usage": usage_of(generations)}


def logprobs_of(tokens: Sequence[TokenEvent], decode: Decode) -> dict[str, Any]:
    """Return the ``logprobs`` object of a choice or a chunk."""
    return {
        "content": [
            {
                **_token(decode([event.token_id]), event.logprob if event.logprob is not None else -9999.0),
                "top_logprobs": [_token(t.token, t.logprob) for t in event.top],
            }
            for event in tokens
        ],
        "refusal": None,
    }


def finish_reason(generation: Generation, *, called: bool = False) -> str:
    """Return OpenAI's word, which for a cancelled completion is that of one cut at its limit."""
    if called and generation.finish_reason == "stop":
        return "tool_calls"
    return "length" if generation.finish_reason == "cancelled" else generation.finish_reason


def _token(text: str, logprob: float) -> dict[str, Any]:
    # OpenAI writes -9999.0 for 'very unlikely'; JSON has no -inf.
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode("utf-8"))}


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
