"""``POST /completions``: text in, text out, no chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from tunery.core.engine import Generation, Sampling, TokenEvent, TopLogprob
from tunery.serve.openai.chat import Head, finish_reason, floored, usage_of, written
from tunery.serve.openai.wire import GenerationBody, SamplingDefaults, Text, TokenId, unserved, wrong

# The first wrong one is enough: a body of 16 MB holds five million.
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Prompt = str | tuple[int, ...]
"""Text, or token ids."""


class CompletionBody(GenerationBody):
    """A completion request."""

    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=64, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=64, fail_fast=True)]
    )
    max_tokens: int | None = Field(default=None, ge=0)
    """0 answers with nothing new, which with ``echo`` and ``logprobs`` scores the prompt."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = False
    """Begin each answer with its prompt."""

    suffix: Annotated[Any, unserved("")] = None
    best_of: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _no_better_than_n(self) -> Self:
        if (self.best_of or 1) > self.choices:
            raise wrong("best_of", "more than n is not served here; leave it out")
        if self.stream and self.echo and self.logprobs is not None:
            raise wrong("stream", "echo with logprobs is not streamed here; leave out one of the three")
        return self

    def prompts(self) -> tuple[Prompt, ...]:
        """Return the prompts, each as text or as ids."""
        given: Any = self.prompt
        if isinstance(given, str):
            return (given,)
        if isinstance(given[0], int):
            return (tuple(given),)
        return tuple(p if isinstance(p, str) else tuple(p) for p in given)

    @property
    def echoed_logprobs(self) -> int | None:
        """Alternatives wanted for each token of the prompt [count]; None where its likelihood is not."""
        return self.logprobs if self.echo else None

    def how(self, defaults: SamplingDefaults) -> Sampling:
        """Return the sampling this body requests."""
        return self.sampling(defaults, max_tokens=self.max_tokens, logprobs=self.logprobs)


def text_completion(
    head: Head, generations: Sequence[Generation], *, prompts: int, echo: Sequence[str] | None, logprobs: bool
) -> dict[str, Any]:
    """Return a whole ``text_completion``.

    Args:
        prompts: Prompts that were given [count].
        echo: Their texts, where each answer is to begin with its own; None for answers alone.
        logprobs: Whether to tell of likelihoods, with ``echo`` of the prompt's tokens, too.
    """
    per_prompt = len(generations) // max(1, prompts)
    choices = []
    for index, generation in enumerate(generations):
        columns = Columns().of((*generation.prompt, *generation.tokens)) if logprobs else None
        text = (echo[index // per_prompt] if echo else "") + generation.text
        choices.append(_choice(index, text, reason=finish_reason(generation), logprobs=columns))
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


class Columns:
    """The older, column-wise ``logprobs`` object of a choice, whole or chunk by chunk."""

    def __init__(self) -> None:
        self._begun = 0  # characters whose first byte was seen

    def of(self, tokens: Sequence[TokenEvent]) -> dict[str, Any]:
        """Return the columns of the next tokens.

        A prompt's first token has no likelihood, because nothing precedes it. ``text_offset`` counts
        characters; a token in the midst of one has the place of that character.
        """
        offsets = []
        for event in tokens:
            inside = bool(event.raw) and _continues(event.raw[0])
            offsets.append(max(0, self._begun - 1) if inside else self._begun)
            self._begun += sum(not _continues(byte) for byte in event.raw)
        return {
            "tokens": [_text(event) for event in tokens],
            "token_logprobs": [None if e.logprob is None else floored(e.logprob) for e in tokens],
            "top_logprobs": [None if e.logprob is None else _alternatives(e) for e in tokens],
            "text_offset": offsets,
        }


def _continues(byte: int) -> bool:
    """Return whether a byte of UTF-8 is not the first of its character."""
    return byte & 0xC0 == 0x80


def _text(token: TokenEvent | TopLogprob) -> str:
    return written(token.token, token.raw, mark="bytes:")


def _alternatives(event: TokenEvent) -> dict[str, float]:
    """Return the alternatives by their texts; one whose text another has goes by its id."""
    found: dict[str, float] = {}
    for token in event.top:
        text = _text(token)
        found[f"token_id:{token.token_id}" if text in found else text] = floored(token.logprob)
    return found


def _object(head: Head) -> dict[str, Any]:
    return {"id": head.id, "object": "text_completion", "created": head.created, "model": head.model}


def _choice(index: int, text: str, *, reason: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}
