"""The port between whoever wants completions and whatever computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

from tunery.core.breaker import State
from tunery.core.example import Message
from tunery.core.tool_text import said_call, write_answer

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen and when to stop."""

    max_tokens: int = 256
    """Completion tokens at most [count]; 0 computes the prompt alone."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    """Nucleus: smallest set of tokens whose probabilities sum to this."""
    seed: int | None = None
    """Same seed, same request, same completion, whatever else is in the batch."""
    stop: tuple[str, ...] = ()
    """Strings that end the completion; not included in its text."""
    logprobs: int | None = None
    """None for none; else this many alternatives a token (0: the chosen token only)."""
    top_k: int = 0
    """Most likely tokens that are drawn from [count]; 0 for all."""
    min_p: float = 0.0
    """Least probability, as a share of the likeliest token's, with which a token is drawn."""
    presence_penalty: float = 0.0
    """Taken off the logit of each token that was generated before."""
    frequency_penalty: float = 0.0
    """Taken off the logit of each token as often as it was generated before."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens that prompt or completion hold, multiplies those under 0; 1 for none."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits."""
    min_tokens: int = 0
    """Completion tokens before an end is chosen [count]; a constraint that leaves nothing else ends it."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the completion besides those that end a turn; not included in its text."""
    ignore_eos: bool = False
    """Whether what ends a turn ends nothing; for measuring speed."""

    @property
    def adjusts(self) -> bool:
        """Whether logits are changed before a token is chosen."""
        penalties = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1
        return bool(penalties or self.logit_bias or self.min_tokens)


@dataclass(frozen=True, slots=True)
class Calls:
    """Which functions a completion may call, in the words of :mod:`tunery.core.tool_text`."""

    functions: tuple[tuple[str, Mapping[str, Any]], ...]
    """Each function's name and the JSON Schema of its arguments, an object."""
    required: bool = False
    """Whether the completion is nothing but calls, at least one."""
    parallel: bool = True
    """Whether there may be more than one call."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the completion must be: a label, JSON of a schema, a match of ``regex``, a text of ``grammar``.

    With ``calls`` it may instead, or must, be calls of functions; with ``calls`` alone and none required,
    free text may stand before and between them.
    """

    labels: tuple[str, ...] | None = None
    json_schema: Mapping[str, Any] | None = None
    """A JSON Schema; ``{}`` allows any JSON value. Properties are written in the schema's order."""
    regex: str | None = None
    """A regular expression that the whole completion matches, without look-around and back-references."""
    calls: Calls | None = None
    grammar: str | None = None
    """A context-free grammar, as GBNF with a rule ``root`` or as Lark with a rule ``start``."""
    field: str = field(default="response_format", compare=False)
    """The request's field that it came from, for messages."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to complete."""

    prompt: tuple[int, ...]
    """Token ids, template applied."""
    adapter: str | None = None
    """Name under which an adapter was loaded; None for the base."""
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    prompt_logprobs: int | None = None
    """None for none; else the prompt's own tokens get their likelihoods, with this many alternatives each."""
    messages: tuple[Message, ...] = ()
    """The conversation that the prompt is made of, for engines whose own template writes it."""
    chat: Mapping[str, Any] | None = None
    """The client's ``tools``, ``tool_choice``, ``parallel_tool_calls`` and ``response_format``, as OpenAI's
    chat completions write them, for engines whose server reads them itself; None of any other request."""


class TopLogprob(NamedTuple):
    """One alternative."""

    token_id: int
    token: str
    """As people are shown it, special ones by their names."""
    logprob: float
    raw: bytes = b""
    """The token's own UTF-8 bytes in the text; empty for a special token, which is left out of it."""


class NativePiece(NamedTuple):
    """What a server of chat completions streams besides text."""

    calls: tuple[Mapping[str, Any], ...] = ()
    """Pieces of calls of functions as OpenAI streams them; ``index`` counts the answer's calls from 0."""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class NativeAnswer:
    """An answer in the parts that a server of chat completions gives."""

    content: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()
    """OpenAI's ``tool_calls``; ``arguments`` are text that is meant to be JSON, and need not be."""
    refusal: str | None = None
    """What the model says instead of an answer."""
    finish_reason: str = "stop"
    """In OpenAI's words, of which there are more than an engine's own."""

    @property
    def text(self) -> str:
        """All of it as text, calls in the words of :mod:`tunery.core.tool_text`; broken arguments stay
        text there."""
        functions = [call["function"] for call in self.calls]
        calls = [said_call(function["name"], function["arguments"]) for function in functions]
        return write_answer(self.content or self.refusal or "", calls)


class TokenEvent(NamedTuple):
    """One step of a completion, as streamed."""

    token_id: int
    text: str
    """Text that became final with this token; empty while a character or a stop string is incomplete."""
    logprob: float | None
    """None where it was not asked for, and for a prompt's first token, which nothing precedes."""
    top: tuple[TopLogprob, ...]
    token: str = ""
    """As people are shown it; filled when log-probabilities were requested."""
    raw: bytes = b""
    """As :attr:`TopLogprob.raw`; filled when log-probabilities were requested."""
    native: NativePiece | None = None
    """What a server of chat completions streams besides text; such an event has no text."""
    upstream: str | None = None
    """With the first: which of several servers behind the engine answers."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished completion."""

    text: str
    token_ids: tuple[int, ...]
    """Generated ids, stop token excluded."""
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose keys and values came from the prefix cache."""
    ttft_ms: float
    latency_ms: float
    tokens: tuple[TokenEvent, ...] = ()
    """Filled when log-probabilities were requested: the tokens of the text and the stop token, if it came."""
    prompt: tuple[TokenEvent, ...] = ()
    """The prompt's tokens, where their log-probabilities were requested."""
    native: NativeAnswer | None = None
    """The answer in parts, where a server of chat completions gave it; ``text`` holds them as text."""
    upstream: str | None = None
    """Which of several servers behind the engine answered."""

    @property
    def content(self) -> str:
        """The text that is streamed as text: without calls that come in parts of their own."""
        return self.text if self.native is None else self.native.content

    @property
    def completion_tokens(self) -> int:
        """Generated tokens, the stop token counted when it ended the completion [count]."""
        return len(self.token_ids) + (1 if self.finish_reason == "stop" else 0)


class Score(NamedTuple):
    """Likelihood of a given completion."""

    logprob: float
    """Sum over completion tokens [nats]."""
    tokens: int
    """Completion tokens scored [count]."""
    greedy: bool = True
    """Whether the model puts each of them first, so that greedy decoding would write them."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an engine can answer; true where it can."""

    reason: str | None = None
    """Why it cannot; None where it can."""
    stopped: bool = False
    """Whether it never will again, and another has to be opened in its place."""

    def __bool__(self) -> bool:
        return self.reason is None


class Engine(Protocol):
    """Computes completions for a base and any number of adapters on it. Thread-safe."""

    @property
    def context_window(self) -> int:
        """Tokens that a prompt and its completion may have together [count]."""
        ...

    def healthy(self) -> Health:
        """Return whether requests can be answered, and why not."""
        ...

    def load_adapter(self, name: str, path: str) -> None:
        """Make a PEFT LoRA folder answer under ``name``; loading the same name and path again is free.

        Raises:
            ConfigError: The folder holds no adapter this engine can serve on its base; says why.
        """
        ...

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter once its running requests are done; unknown names are ignored."""
        ...

    def adapters(self) -> tuple[str, ...]:
        """Return the names loaded, sorted."""
        ...

    def submit(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Future[Generation]:
        """Queue one request; the future can be cancelled while it waits or runs.

        Args:
            request: What to complete.
            on_token: Called in the engine's thread for every token; must not block.

        Raises:
            NotFoundError: The adapter is not loaded; never answered by the base instead.
            ConfigError: The prompt is empty or leaves no room in the context window.
        """
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Complete many prompts, batched, and return them in order."""
        ...

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        """Return the likelihood of each (prompt ids, completion ids) pair."""
        ...

    def close(self) -> None:
        """Stop the engine; waiting requests are cancelled."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """An engine that can check a request, and compile what it is held to, before its turn has come."""

    def prepare(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Callable[[], Future[Generation]]:
        """Do what takes long of :meth:`Engine.submit`, and return what does the rest; raises as that."""
        ...


@runtime_checkable
class Relaying(Preparing, Protocol):
    """An engine elsewhere: preparing and sending wait for nothing, so that the event loop may do both.

    It sends from the event loop of the thread that prepared a request.
    """

    @property
    def relays(self) -> bool:
        """Whether that is so."""
        ...

    async def leave(self) -> None:
        """Close the connections of the event loop that runs this: it is about to end."""
        ...


class UpstreamState(NamedTuple):
    """How one of several servers behind an engine stands."""

    name: str
    circuit: State
    """``open``: it failed, is left alone, and tried again in a while."""
    reason: str | None
    """The newest failure; None after a success."""
    running: int
    """Requests that it has [count]."""


@runtime_checkable
class Replicated(Protocol):
    """An engine with several servers behind it."""

    @property
    def upstreams(self) -> tuple[UpstreamState, ...]:
        """How they stand; empty where there is one."""
        ...


@runtime_checkable
class Native(Protocol):
    """An engine whose server may read :attr:`GenerationRequest.chat` and give answers in parts."""

    @property
    def is_native(self) -> bool:
        """Whether it does; nobody else looks for calls in its answers then."""
        ...


class Tokenizer(Protocol):
    """What stages outside ``model`` need of a tokenizer with its chat template."""

    def render_prompt(self, messages: Sequence[Any], *, most: int | None = None) -> tuple[int, ...]:
        """Return the ids of a conversation up to where the assistant begins to speak.

        Raises:
            RefusedByTemplate: The template does not take the conversation.
            ConfigError: It is sure to have more than ``most`` tokens.
        """
        ...

    def refusal(self, messages: Sequence[Any]) -> str | None:
        """Return in the template's words why a conversation cannot be trained on; None where it can."""
        ...

    def refused_turn(self, messages: Sequence[Any]) -> int | None:
        """Return the place of the first message that is not taken; None where it cannot be told."""
        ...

    @property
    def writes_day(self) -> bool:
        """Whether the template writes the day on which it is asked."""
        ...

    def on_day(self, day: date | None) -> Self:
        """Return the tokenizer as its template writes on that day; None for each day's own."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest conversation that the base was made for [tokens]."""
        ...

    def encode(self, text: str, *, most: int | None = None) -> tuple[int, ...]:
        """Return the ids of plain text, no special tokens added.

        Raises:
            ConfigError: It is sure to have more than ``most`` tokens.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens left out."""
        ...

    def framed(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return ids with what the tokenizer's own library puts around a text, such as a BOS."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the entries of the vocabulary, as its file writes them."""
        ...

    def decode_all(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens by their names."""
        ...

    @property
    def vocab_size(self) -> int:
        """Ids, added ones counted [count]."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an assistant turn."""
        ...
