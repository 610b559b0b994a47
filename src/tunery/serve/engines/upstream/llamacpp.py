"""llama.cpp's server: adapters by their place in its command line, and grammars of llguidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tunery.core.engine import GenerationRequest, Score, TokenEvent, TopLogprob
from tunery.core.errors import ConfigError
from tunery.serve.engines.upstream.dialect import Piece, Post, PostLater, changed
from tunery.serve.grammar import COMMON, lark

_OWN_NAMES = {
    "top_k": "top_k",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repeat_penalty",
    "ignore_eos": "ignore_eos",
}
_LACKING = ("min_tokens", "stop_token_ids")


class LlamaCppDialect:
    """llama.cpp's own completions; see :class:`tunery.serve.engines.upstream.dialect.Dialect`.

    The server answers a request for an adapter that it does not have by its base, without a word. So no name
    ever goes over the wire: a request carries the factor of every adapter, and one that is not among them is
    refused here.

    Args:
        adapters: Names of the adapters that the server was started with, in its order.
    """

    path = "completion"
    takes_adapters = False
    is_native = False

    def __init__(self, adapters: Sequence[str] = ()) -> None:
        self._adapters = tuple(adapters)

    def body(self, request: GenerationRequest, model: str, max_tokens: int) -> dict[str, Any]:
        """As the protocol."""
        sampling = request.sampling
        if lacking := list(changed(sampling, _LACKING)):
            raise ConfigError(f"llama.cpp does not take {', '.join(lacking)}", param=lacking[0])
        body: dict[str, Any] = {
            "prompt": list(request.prompt),
            "n_predict": max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # Ours is the field's order: temperature, then what is cut off. Its own is the other way round.
            "samplers": ["penalties", "temperature", "min_p", "top_k", "top_p"],
            "top_k": 0,
            "min_p": 0.0,
            "repeat_last_n": len(request.prompt) + max_tokens,
            "stop": list(sampling.stop),
            "n_probs": 0 if sampling.logprobs is None else max(1, sampling.logprobs),
            "return_tokens": True,
            "stream": True,
            "lora": self._scales(request.adapter),
        }
        body |= {_OWN_NAMES[name]: value for name, value in changed(sampling, tuple(_OWN_NAMES)).items()}
        body |= {} if sampling.seed is None else {"seed": sampling.seed % 2**32}
        if sampling.logit_bias:
            body["logit_bias"] = [[token, value] for token, value in sampling.logit_bias]
        if (form := request.constraint) is not None:
            labels = None if form.labels is None else tuple(dict.fromkeys(form.labels))
            body["grammar"] = f"%llguidance {{}}\n{lark(form, labels, options=COMMON)}"
        return body

    def piece(self, chunk: Mapping[str, Any]) -> Piece:
        """As the protocol."""
        ids = tuple(chunk.get("tokens") or ())
        text = chunk.get("content") or ""
        ended = {"limit": "length", "eos": "stop", "word": "stop"}.get(chunk.get("stop_type", ""))
        cached = (chunk.get("timings") or {}).get("cache_n") if chunk.get("stop") else None
        events, generated = partial(_events, chunk, text, ids), chunk.get("tokens_predicted")
        return Piece(text, ids, events, ended, cached, generated, chunk.get("stop_type") == "eos")

    async def score(
        self, post: PostLater, prompt: Sequence[int], completion: Sequence[int], model: str
    ) -> Score:
        """As the protocol: a grammar holds the answer to the completion's tokens.

        Likelihoods are those before the grammar forbids anything, so they are the model's own.
        """
        if not completion:
            return Score(0.0, 0)
        tokens = " ".join(f"<[{token}]>" for token in completion)
        adapter = model if model in self._adapters else None
        body = {
            "prompt": list(prompt),
            "n_predict": len(completion),
            "temperature": 0,
            "n_probs": 1,
            "grammar": f"%llguidance {{}}\nstart: {tokens}",
            "lora": self._scales(adapter),
        }
        found = (await post(self.path, body))["completion_probabilities"][: len(completion)]
        if [token["id"] for token in found] != list(completion):
            raise ConfigError("llama.cpp gives no likelihood of a completion that ends within a character")
        greedy = all(token["top_logprobs"][0]["id"] == token["id"] for token in found)
        return Score(float(sum(token["logprob"] for token in found)), len(completion), greedy)

    def load(self, post: Post, name: str, path: str) -> None:
        """Refuse: the server takes adapters when it starts."""
        raise ConfigError(
            "llama.cpp's server takes adapters when it starts alone, so one at an address serves its base",
            hint="leave engine.base_url out, and the server is started here with the adapters that are asked",
        )

    def unload(self, post: Post, name: str) -> None:
        """Do nothing."""

    def _scales(self, adapter: str | None) -> list[dict[str, float]]:
        return [{"id": n, "scale": float(name == adapter)} for n, name in enumerate(self._adapters)]


def _events(chunk: Mapping[str, Any], text: str, ids: Sequence[int]) -> tuple[TokenEvent, ...]:
    """Return a chunk's tokens, or all of its text as one where likelihoods were not asked for."""
    likely = chunk.get("completion_probabilities") or []
    if not likely:
        return (TokenEvent(ids[-1] if ids else -1, text, None, ()),) if text else ()
    texts = [text, *[""] * (len(likely) - 1)]
    return tuple(_event(token, shown) for token, shown in zip(likely, texts, strict=True))


def _event(token: Mapping[str, Any], text: str) -> TokenEvent:
    top = tuple(
        TopLogprob(one["id"], one["token"], one["logprob"], bytes(one["bytes"]))
        for one in token["top_logprobs"]
    )
    return TokenEvent(token["id"], text, token["logprob"], top, token["token"], bytes(token["bytes"]))
