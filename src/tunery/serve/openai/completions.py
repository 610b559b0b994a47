"""``POST /completions``: text in, text out, no chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, StrictInt, model_validator

from tunery.core.engine import Generation, Sampling, TokenEvent
from tunery.serve.openai.chat import Decode, Head, finish_reason, usage_of
from tunery.serve.openai.wire import GenerationBody, SamplingDefaults, Text, refuse

TokenId = Annotated[StrictInt, Field(ge=0)]
Prompt = str | tuple[int, ...]
"""Text, or token ids."""


class CompletionBody(GenerationBody):
    """A completion request."""

    prompt: (
        Text
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=64)]
    )
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = False
    suffix: str | None = None
    best_of: int | None = None

    @model_validator(mode="after")
    def _no_extras(self) -> Self:
        refuse({"echo": self.echo, "suffix": self.suffix, "best_of": (self.best_of or 1) > self.choices})
        return self

    def prompts(self) -> tuple[Prompt, ...]:
        """Return the prompts, each as text or as ids."""
        given: Any = self.prompt
        if isinstance(given, str):
            return (given,)
        if isinstance(given[0], int):
            return (tuple(given),)
        return tuple(p if isinstance(p, str) else tuple(p) for p in given)

    def how(self, defaults: SamplingDefaults) -> Sampling:
        """Return the sampling this body requests."""
        return self.sampling(defaults, max_tokens=self.max_tokens, logprobs=self.logprobs)


def text_completion(
    head: Head, generations: Sequence[Generation], *, prompts: int, decode: Decode, logprobs: bool
) -> dict[str, Any]:
    """Return a whole ``text_completion``."""
    choices = [
        _choice(
            index,
            generation.text,
            reason=finish_reason(generation),
            logprobs=logprobs_of(generation.tokens, decode) if logprobs else None,
        )
        for index, generation in enumerate(generations)
    ]
    return {**_object(head), "choices": choices, "usage": usage_of(generations, prompts=prompts)}


def text_chunk(head: Head, index: int, text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    """Return a chunk of text."""
    return {**_object(head), "choices": [_choice(index, text, reason=None, logprobs=logprobs)]}


def last_chunk(head: Head, index: int, generation: Generation) -> dict[str, Any]:
    """Return the chunk that closes a choice."""
    choice = _choice(index, "", reason=finish_reason(generation), logprobs=None)
    return {**_object(head), "choices": [choice]}


def usage_chunk(head: Head, generations: Sequence[Generation], *, prompts: int) -> dict[str, Any]:
    """Return the last chunk with token counts."""
    return {**_object(head), "choices": [], "usage": usage_of(generations, prompts=prompts)}


def logprobs_of(tokens: Sequence[TokenEvent], decode: Decode, *, offset: int = 0) -> dict[str, Any]:
    """Return the older, column-wise ``logprobs`` object.

    Args:
        tokens: The choice's tokens, or those of one chunk.
        decode: Token ids to text.
        offset: Where the first of them begins in the completion's text [characters].
    """
    texts = [decode([t.token_id]) for t in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [-9999.0 if t.logprob is None else max(t.logprob, -9999.0) for t in tokens],
        "top_logprobs": [{alt.token: max(alt.logprob, -9999.0) for alt in t.top} for t in tokens],
        "text_offset": offsets,
    }


def _object(head: Head) -> dict[str, Any]:
    return {"id": head.id, "object": "text_completion", "created": head.created, "model": head.model}


def _choice(index: int, text: str, *, reason: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}
