"""An endpoint of chat completions and no more: conversations go as messages, written by its own template.

Tools, calls and response formats go and come as OpenAI writes them; nothing here looks into texts for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tunery.core.engine import Constraint, GenerationRequest, Score, TokenEvent, TopLogprob
from tunery.core.errors import ConfigError
from tunery.serve.engines.upstream.dialect import Piece, Post, PostLater, changed
from tunery.serve.engines.upstream.native import native_messages

_LACKING = ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos")
_NO_ID = -1
"""Stands for a token whose id the endpoint does not say."""


class ChatDialect:
    """OpenAI's chat completions; see :class:`tunery.serve.engines.upstream.dialect.Dialect`.

    Args:
        max_tokens_field: What the endpoint calls the limit of an answer.
    """

    path = "v1/chat/completions"
    takes_adapters = False
    is_native = True

    def __init__(self, max_tokens_field: str = "max_tokens") -> None:
        self._max_tokens = max_tokens_field

    def body(self, request: GenerationRequest, model: str, max_tokens: int) -> dict[str, Any]:
        """As the protocol; what only a server of token ids can do is refused."""
        sampling = request.sampling
        if not request.messages:
            raise ConfigError(f"{model} answers conversations, not plain prompts", param="prompt")
        if lacking := list(changed(sampling, _LACKING)):
            raise ConfigError(f"{model} does not take {', '.join(lacking)}", param=lacking[0])
        body: dict[str, Any] = {
            "model": model,
            "messages": native_messages(request),
            self._max_tokens: max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= changed(sampling, ("seed", "stop", "presence_penalty", "frequency_penalty"))
        if sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.logprobs}
        if sampling.logit_bias:
            body["logit_bias"] = {str(token): value for token, value in sampling.logit_bias}
        if (form := request.constraint) is not None and (held := _format_of(form, model)) is not None:
            body["response_format"] = held
        return {**body, **(request.chat or {})}

    def piece(self, chunk: Mapping[str, Any]) -> Piece:
        """As the protocol."""
        usage = chunk.get("usage") or {}
        count = int(usage.get("completion_tokens") or 0)
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        choice = next(iter(chunk.get("choices", ())), None) or {}
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        calls = delta.get("tool_calls") or ()
        return Piece(
            text,
            (),
            partial(_events, choice, text),
            choice.get("finish_reason"),
            cached,
            count or None,
            prompt_tokens=usage.get("prompt_tokens"),
            calls=calls if isinstance(calls, list) else [calls] if calls else (),
            refusal=delta.get("refusal") or "",
        )

    async def score(
        self, post: PostLater, prompt: Sequence[int], completion: Sequence[int], model: str
    ) -> Score:
        """Refuse: such endpoints give no likelihoods of a given text."""
        raise ConfigError(f"{model} gives no likelihoods of a given answer")

    def load(self, post: Post, name: str, path: str) -> None:
        """Refuse: there is no such route."""
        raise ConfigError("the endpoint takes no adapters; it answers as its own model alone")

    def unload(self, post: Post, name: str) -> None:
        """Do nothing."""


def _format_of(form: Constraint, model: str) -> dict[str, Any] | None:
    """Return OpenAI's response format; None where calls alone are wanted, which ``tools`` say.

    Raises:
        ConfigError: The endpoint has no word for it.
    """
    if form.json_schema is None:
        if form.calls is not None and form.labels is None:
            return None
        raise ConfigError(
            f"{model} holds answers to JSON alone; labels, patterns and grammars are not passed on",
            param=form.field,
        )
    if not form.json_schema or form.json_schema == {"type": "object"}:
        return {"type": "json_object"}
    schema = {"name": "answer", "strict": True, "schema": form.json_schema}
    return {"type": "json_schema", "json_schema": schema}


def _events(choice: Mapping[str, Any], text: str) -> tuple[TokenEvent, ...]:
    """Return a chunk's tokens, or all of its text as one where they are not named."""
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if not tokens:
        return (TokenEvent(_NO_ID, text, None, ()),) if text else ()
    texts = [text, *[""] * (len(tokens) - 1)]  # text that became final comes with the first
    return tuple(
        TokenEvent(
            _NO_ID,
            shown,
            token["logprob"],
            tuple(map(_alternative, token.get("top_logprobs", ()))),
            token["token"],
            _raw(token),
        )
        for shown, token in zip(texts, tokens, strict=True)
    )


def _alternative(token: Mapping[str, Any]) -> TopLogprob:
    return TopLogprob(_NO_ID, token["token"], token["logprob"], _raw(token))


def _raw(token: Mapping[str, Any]) -> bytes:
    return bytes(token["bytes"]) if token.get("bytes") else str(token["token"]).encode()
