"""``POST /tokenize`` and ``/detokenize``, as vLLM's clients send them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from tunery.core.example import Message
from tunery.core.tool_text import describe, functions_of, with_functions
from tunery.serve.openai.chat import ROLES, ChatMessage
from tunery.serve.openai.tool_calls import known_tools
from tunery.serve.openai.wire import Harmless, Name, Text, TokenId, Wire, unserved, wrong

MAX_TOKENS = 262_144
"""Ids that are read at once at most [count]."""


class TokenizeBody(Wire):
    """A text, or a conversation, to count or to see in tokens."""

    model: Annotated[Name, StringConstraints(min_length=1, max_length=512)] | None = None
    """Left out, the base."""
    prompt: Text | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2_000)] | None = None
    tools: Annotated[list[Any], AfterValidator(known_tools)] | None = None
    add_special_tokens: bool | None = None
    """Put what the tokenizer's own library puts around a text around it: by default around a prompt, and not
    around a conversation, whose template writes all there is."""
    return_token_strs: bool | None = False
    add_generation_prompt: Annotated[Any, unserved(True)] = None
    continue_final_message: Annotated[Any, unserved(False)] = None
    chat_template: Annotated[Any, unserved()] = None
    chat_template_kwargs: Annotated[Any, unserved({}, {"enable_thinking": False})] = None
    mm_processor_kwargs: Annotated[Any, unserved({})] = None
    priority: Harmless = None
    request_id: Harmless = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise wrong("prompt", "give either prompt or messages")
        if self.prompt is not None and self.tools:
            raise wrong("tools", "go with messages")
        return self

    def turns(self) -> tuple[Message, ...]:
        """Return the conversation, functions described in the system turn."""
        turns = tuple(Message(role=ROLES.get(m.role, m.role), content=m.text) for m in self.messages or ())
        functions = functions_of(self.tools or [])
        return with_functions(turns, describe(functions)) if functions else turns


class DetokenizeBody(Wire):
    """Ids to see as text."""

    model: Annotated[Name, StringConstraints(min_length=1, max_length=512)] | None = None
    tokens: Annotated[list[TokenId], Field(max_length=MAX_TOKENS, fail_fast=True)]
    priority: Harmless = None
    request_id: Harmless = None
