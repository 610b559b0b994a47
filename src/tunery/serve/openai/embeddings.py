"""``POST /embeddings``: the body, and vectors as numbers or as the base64 that OpenAI's client asks for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tunery.serve.openai.completions import TokenIds
from tunery.serve.openai.wire import Harmless, Name, Text, Wire, unserved

MAX_INPUTS = 2_048
"""Texts of one request at most [count]; OpenAI's own bound."""
Input = str | tuple[int, ...]
"""Text, or ids of the encoder's own tokenizer."""


class EmbeddingBody(Wire):
    """A request for embeddings."""

    input: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)]
    )
    model: Annotated[Name, StringConstraints(min_length=1, max_length=512)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: Annotated[Name, StringConstraints(max_length=512)] | None = None
    """Whom the request counts for."""
    # vLLM's
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    """Tokens after which texts are cut, -1 for as many as the encoder takes; without it, longer ones are
    refused."""
    add_special_tokens: Annotated[Any, unserved(True)] = None
    normalize: Annotated[Any, unserved(True)] = None
    priority: Harmless = None
    request_id: Harmless = None

    def inputs(self) -> tuple[Input, ...]:
        """Return the texts, each as text or as ids."""
        given: Any = self.input
        if isinstance(given, str):
            return (given,)
        if isinstance(given[0], int):
            return (tuple(given),)
        return tuple(i if isinstance(i, str) else tuple(i) for i in given)


def embedding_list(model: str, vectors: Any, *, tokens: int, encoding: str | None) -> bytes:
    """Return the JSON of an answer, written row by row, so that others get a turn between two.

    Args:
        vectors: float32, shape ``(n_inputs, dimensions)``.
        tokens: Of all inputs [count].
        encoding: ``base64`` for little-endian float32 in base64, else numbers.
    """
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    end = json.dumps({"model": model, "usage": usage})[1:]
    rows = ", ".join(_rows(vectors, encoding))
    return f'{{"object": "list", "data": [{rows}], {end}'.encode()


def _rows(vectors: Sequence[Any], encoding: str | None) -> Iterator[str]:
    for index, vector in enumerate(vectors):
        numbers = (
            base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if encoding == "base64"
            else vector.tolist()
        )
        yield json.dumps({"object": "embedding", "index": index, "embedding": numbers})
