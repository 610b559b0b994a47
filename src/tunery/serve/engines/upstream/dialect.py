"""What differs between servers of completions: how a request is written and an answer is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from tunery.core.engine import GenerationRequest, Sampling, Score, TokenEvent, TopLogprob
from tunery.core.errors import ConfigError

Post = Callable[[str, Mapping[str, Any]], Any]
"""Sends JSON to a path and returns what comes back; raises the engine's errors."""
PostLater = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""As :data:`Post`, from an event loop."""

_PLAIN = Sampling()


class AlreadyLoadedError(ConfigError):
    """The server has an adapter of that name."""


class Piece(NamedTuple):
    """A piece of a streamed answer."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    events: Callable[[], tuple[TokenEvent, ...]] = tuple
    """Returns its tokens; making them costs more than all else of a piece, and often nobody asks."""
    finish_reason: str | None = None
    cached_tokens: int | None = None
    """Prompt tokens that were not computed again; None where the piece does not say [count]."""
    generated_tokens: int | None = None
    """All tokens of the answer up to here, where the piece says; ids that are fewer are not all [count]."""
    ended_by_token: bool = False
    """Whether the last id is the one that ended the answer, which need not be one of the base's own."""
    prompt_tokens: int | None = None
    """Tokens of the prompt, where only the server can count them [count]."""
    calls: Sequence[Any] = ()
    """Calls of functions in pieces, as the server writes them."""
    refusal: str = ""
    """A piece of what the model says instead of an answer."""


class Dialect(Protocol):
    """How one kind of server is spoken to."""

    @property
    def path(self) -> str:
        """Of streamed completions."""
        ...

    @property
    def takes_adapters(self) -> bool:
        """Whether adapters can be loaded while it runs."""
        ...

    @property
    def is_native(self) -> bool:
        """Whether it reads :attr:`GenerationRequest.chat` and gives answers in parts, without token ids."""
        ...

    def body(self, request: GenerationRequest, model: str, max_tokens: int) -> dict[str, Any]:
        """Return a request for a streamed answer.

        Args:
            request: What to complete.
            model: Name of the base or of a loaded adapter.
            max_tokens: Completion tokens at most, within the window [count].

        Raises:
            ConfigError: The server has no word for what is asked.
        """
        ...

    def piece(self, chunk: Mapping[str, Any]) -> Piece:
        """Return what a piece of the stream says."""
        ...

    async def score(
        self, post: PostLater, prompt: Sequence[int], completion: Sequence[int], model: str
    ) -> Score:
        """Return the likelihood of a completion.

        Raises:
            ConfigError: The server gives none.
        """
        ...

    def load(self, post: Post, name: str, path: str) -> None:
        """Have the server load an adapter's folder under a name.

        Raises:
            AlreadyLoadedError: It has one of that name already, perhaps another.
            ConfigError: It refuses it, or would answer wrongly with it.
        """
        ...

    def unload(self, post: Post, name: str) -> None:
        """Have it forget an adapter."""
        ...


def changed(sampling: Sampling, names: Sequence[str]) -> dict[str, Any]:
    """Return those of the named fields that are set to something else than their default, JSON-ready."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name in names
        if (value := getattr(sampling, name)) != getattr(_PLAIN, name)
    }


def openai_body(request: GenerationRequest, model: str, max_tokens: int) -> dict[str, Any]:
    """Return a request in the fields of OpenAI's completions, which vLLM has too.

    Raises:
        ConfigError: The answer is to be calls of functions.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(request.prompt),
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= {} if sampling.seed is None else {"seed": sampling.seed}
    body |= {"stop": list(sampling.stop)} if sampling.stop else {}
    body |= {} if sampling.logprobs is None else {"logprobs": sampling.logprobs}
    body |= changed(sampling, ("presence_penalty", "frequency_penalty"))
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): value for token, value in sampling.logit_bias}
    if (form := request.constraint) is not None:
        if form.calls is not None:
            raise ConfigError(
                "the upstream engine does not hold answers to calls of functions", param="tools"
            )
        kinds = {
            "choice": form.labels,
            "json": form.json_schema,
            "regex": form.regex,
            "grammar": form.grammar,
        }
        body["structured_outputs"] = {name: given for name, given in kinds.items() if given is not None}
    return body


def openai_piece(chunk: Mapping[str, Any]) -> Piece:
    """Return what a piece of OpenAI's stream of completions says, ids where vLLM adds them."""
    usage = chunk.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") if usage else None
    choice = next(iter(chunk.get("choices", ())), None)
    if choice is None:
        return Piece(cached_tokens=cached)
    text = choice.get("text") or ""
    ids = tuple(choice.get("token_ids") or ())
    return Piece(text, ids, partial(_events, choice, text, ids), choice.get("finish_reason"), cached)


def _events(choice: Mapping[str, Any], text: str, ids: Sequence[int]) -> tuple[TokenEvent, ...]:
    """Return a chunk's tokens, or all of its text as one where tokens are not named."""
    columns = choice.get("logprobs") or {}
    tokens = columns.get("tokens") or []
    if not tokens:
        return (TokenEvent(ids[-1] if ids else -1, text, None, ()),) if text else ()
    likely = columns.get("token_logprobs") or [None] * len(tokens)
    tops = columns.get("top_logprobs") or [None] * len(tokens)
    texts = [text, *[""] * (len(tokens) - 1)]  # text that became final comes with the first
    places = ids if len(ids) == len(tokens) else [-1] * len(tokens)
    return tuple(
        TokenEvent(id_, shown, logprob, _alternatives(top), token, token.encode())
        for id_, shown, logprob, top, token in zip(places, texts, likely, tops, tokens, strict=True)
    )


def _alternatives(top: Mapping[str, float] | None) -> tuple[TopLogprob, ...]:
    return tuple(TopLogprob(-1, token, value, token.encode()) for token, value in (top or {}).items())
