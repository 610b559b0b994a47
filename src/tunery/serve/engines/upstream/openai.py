"""A server of OpenAI's completions and no more: the base alone, scored by ``echo``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunery.core.engine import GenerationRequest, Score
from tunery.core.errors import ConfigError
from tunery.serve.engines.upstream.dialect import Piece, Post, PostLater, changed, openai_body, openai_piece

_LACKING = ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos")


class OpenAIDialect:
    """OpenAI's words; see :class:`tunery.serve.engines.upstream.dialect.Dialect`."""

    path = "v1/completions"
    takes_adapters = False
    is_native = False

    def body(self, request: GenerationRequest, model: str, max_tokens: int) -> dict[str, Any]:
        """As the protocol; what vLLM alone has is refused."""
        if lacking := list(changed(request.sampling, _LACKING)):
            raise ConfigError(
                f"the upstream does not take {', '.join(lacking)}",
                hint="engine.dialect=vllm where it does",
                param=lacking[0],
            )
        return openai_body(request, model, max_tokens)

    def piece(self, chunk: Mapping[str, Any]) -> Piece:
        """As the protocol."""
        return openai_piece(chunk)

    async def score(
        self, post: PostLater, prompt: Sequence[int], completion: Sequence[int], model: str
    ) -> Score:
        """As the protocol."""
        ids = [*prompt, *completion]
        body = {"model": model, "prompt": ids, "temperature": 0, "max_tokens": 0, "echo": True, "logprobs": 0}
        columns = (await post("v1/completions", body))["choices"][0]["logprobs"]
        return Score(float(sum(columns["token_logprobs"][len(prompt) : len(ids)])), len(completion))

    def load(self, post: Post, name: str, path: str) -> None:
        """Refuse: there is no such route."""
        raise ConfigError(
            "the upstream takes no adapters; it answers as its own model alone",
            hint="engine.dialect=vllm, or export the version merged and serve it there",
        )

    def unload(self, post: Post, name: str) -> None:
        """Do nothing."""
