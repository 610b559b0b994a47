"""The engine port in front of an upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from tunery.core.engine import Generation, GenerationRequest, Health, Sampling, Score, TokenEvent
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.endpoint.client import key_from
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines.upstream.settings import UpstreamSettings
from tunery.serve.engines.upstream.transport import Transport

_DOWN_S = 5.0
"""How long an upstream that could not be reached is taken to be away [s]."""
_PLAIN = Sampling()
_OPENAI_SETS = ("presence_penalty", "frequency_penalty")
_VLLM_SETS = ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos")


class UpstreamEngine:
    """Completions of a server elsewhere.

    Args:
        base: Folder of the base that the upstream serves: its tokenizer writes prompts here.
        settings: Where it is.

    Raises:
        ConfigError: The key is not in the environment, or the upstream does not list the model.
        ResourceError: It cannot be reached.
    """

    def __init__(self, base: Path, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._tokenizer = load_tokenizer(str(base))
        self._transport = Transport(settings, key_from(settings.api_key_env, settings.base_url))
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = Lock()
        self._loaded: dict[str, str] = {}
        self._closed = False
        self._down: tuple[float, str] | None = None
        try:
            listed = self._models()
            self._model = settings.model or next(iter(listed), "")
            if self._model not in listed:
                raise NotFoundError.of("model", self._model, listed, hint="set engine.model to one it serves")
        except Exception:
            self.close()
            raise
        own = self._tokenizer.max_tokens
        self._window = settings.context_window or min(own, listed[self._model] or own)

    @property
    def context_window(self) -> int:
        """Tokens that a prompt and its completion may have together [count]."""
        return self._window

    def healthy(self) -> Health:
        """Return whether the upstream answered last, or has not been asked for some seconds."""
        down = self._down
        if self._closed:
            return Health("the engine is closed", stopped=True)
        if down is not None and time.monotonic() - down[0] < _DOWN_S:
            return Health(down[1])
        return Health()

    def load_adapter(self, name: str, path: str) -> None:
        """Have the upstream load a PEFT folder that it can read under the same path.

        Raises:
            ConfigError: It refuses the adapter, in its own words, or takes none.
        """
        with self._lock:
            if self._loaded.get(name) == path:
                return
            if self._settings.dialect != "vllm":
                raise ConfigError(
                    f"{self._settings.base_url} takes no adapters; it answers as {self._model} alone",
                    hint="engine.dialect=vllm, or export the version merged and serve it there",
                )
            self._post("load_lora_adapter", {"lora_name": name, "lora_path": path})
            self._loaded[name] = path

    def unload_adapter(self, name: str) -> None:
        """Have it forget an adapter; unknown names are ignored."""
        with self._lock:
            if self._loaded.pop(name, None) is not None:
                self._post("unload_lora_adapter", {"lora_name": name})

    def adapters(self) -> tuple[str, ...]:
        """Return the names loaded from here, sorted."""
        return tuple(sorted(self._loaded))

    def submit(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Future[Generation]:
        """Send one request from the event loop of this thread, or from the engine's own.

        Cancelling the future closes its connection, whatever came of it by then.

        Raises:
            NotFoundError: The adapter is not loaded; never answered by the base instead.
            ConfigError: The prompt leaves no room in the context window, or the upstream lacks what is asked.
            ResourceError: The engine is closed.
        """
        return self.prepare(request, on_token)()

    def prepare(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Callable[[], Future[Generation]]:
        """Check one request and return what sends it; raises as :meth:`submit`.

        It is sent from the event loop of the thread that prepared it, whichever thread has it sent.
        """
        body, loop = self._body(request), self._transport.loop()

        def send() -> Future[Generation]:
            if self._closed:
                raise ResourceError("the engine is closed")
            future: Future[Generation] = Future()
            work = self._answered(body, len(request.prompt), on_token)
            if _runs_here(loop):
                self._begin(loop, future, work)
            else:
                loop.call_soon_threadsafe(self._begin, loop, future, work)
            return future

        return send

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Complete many prompts, so many at once as may be in flight, and return them in order."""
        return [future.result() for future in [self.submit(request) for request in requests]]

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        """Return the likelihood of each (prompt ids, completion ids) pair, by the upstream's word."""
        name = self._name_of(adapter)

        async def all_rows() -> list[Score]:
            return list(await asyncio.gather(*(self._score(prompt, done, name) for prompt, done in rows)))

        return self._transport.wait(all_rows())

    def close(self) -> None:
        """Send nothing more; what is in flight ends."""
        self._closed = True
        for task in list(self._tasks):
            with suppress(RuntimeError):  # its event loop is gone, and it with that
                task.get_loop().call_soon_threadsafe(task.cancel)
        self._transport.close()

    def _begin(self, loop: asyncio.AbstractEventLoop, future: Future[Generation], work: Any) -> None:
        """Start a request's task; the future and the task end each other."""
        task: asyncio.Task[None] = loop.create_task(_into(future, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def ended(done: Future[Generation]) -> None:
            if done.cancelled() and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        future.add_done_callback(ended)

    def _models(self) -> dict[str, int | None]:
        """Return the models listed there, with their windows where they are told."""
        answer = self._transport.wait(self._transport.get("models")) or {}
        return {str(model["id"]): model.get("max_model_len") for model in answer.get("data", ())}

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._transport.wait(self._transport.post(path, body))

    def _name_of(self, adapter: str | None) -> str:
        if adapter is None:
            return self._model
        if adapter not in self._loaded:
            raise NotFoundError.of("adapter", adapter, self._loaded, hint="tunery registry ls")
        return adapter

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        sampling, room = request.sampling, self._window - len(request.prompt)
        if not request.prompt or room < min(1, sampling.max_tokens):
            raise ConfigError(
                f"a prompt of {len(request.prompt):,} tokens leaves no room for an answer in the upstream's "
                f"window of {self._window:,}",
                param="messages",
            )
        if request.prompt_logprobs is not None or (request.constraint and request.constraint.calls):
            raise ConfigError(
                "the upstream engine passes on neither likelihoods of the prompt nor calls of functions"
            )
        body: dict[str, Any] = {
            "model": self._name_of(request.adapter),
            "prompt": list(request.prompt),
            "max_tokens": min(sampling.max_tokens, room),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {} if sampling.seed is None else {"seed": sampling.seed}
        body |= {"stop": list(sampling.stop)} if sampling.stop else {}
        body |= {} if sampling.logprobs is None else {"logprobs": sampling.logprobs}
        body |= self._adjusted(sampling)
        body |= {"return_token_ids": True} if self._settings.dialect == "vllm" else {}
        if (form := request.constraint) is not None:
            kinds = {
                "choice": form.labels,
                "json": form.json_schema,
                "regex": form.regex,
                "grammar": form.grammar,
            }
            body["structured_outputs"] = {name: given for name, given in kinds.items() if given is not None}
        return body

    def _adjusted(self, sampling: Sampling) -> dict[str, Any]:
        """Return what is set of how tokens are chosen, in the upstream's words.

        Raises:
            ConfigError: It is vLLM's, and the upstream speaks OpenAI's words alone.
        """
        given: dict[str, Any] = {
            name: value
            for name in _OPENAI_SETS
            if (value := getattr(sampling, name)) != getattr(_PLAIN, name)
        }
        if sampling.logit_bias:
            given["logit_bias"] = {str(token): value for token, value in sampling.logit_bias}
        more = {n: v for n in _VLLM_SETS if (v := getattr(sampling, n)) != getattr(_PLAIN, n)}
        if more and self._settings.dialect != "vllm":
            raise ConfigError(
                f"the upstream {self._settings.base_url} does not take {', '.join(more)}",
                hint="engine.dialect=vllm where it does",
                param=next(iter(more)),
            )
        return given | {n: list(v) if isinstance(v, tuple) else v for n, v in more.items()}

    async def _answered(
        self, body: Mapping[str, Any], prompt: int, on_token: Callable[[TokenEvent], None] | None
    ) -> Generation:
        """Return a completion, its tokens handed on as they come."""
        started = time.monotonic()
        pieces: list[str] = []
        ids: list[int] = []
        events: list[TokenEvent] = []
        usage: Mapping[str, Any] = {}
        first, reason, keeps = None, "stop", body.get("logprobs") is not None
        try:
            async for chunk in self._transport.stream("completions", body):
                usage = chunk.get("usage") or usage
                for choice in chunk.get("choices", ()):
                    first = first or time.monotonic()
                    text = choice.get("text") or ""
                    pieces.append(text)
                    ids += choice.get("token_ids") or []
                    reason = choice.get("finish_reason") or reason
                    if on_token is None and not keeps:
                        continue
                    found = _events(choice, text)
                    events += found if keeps else ()
                    for event in found if on_token else ():
                        on_token(event)  # type: ignore[misc]  # only where there is one
        except ResourceError as error:
            self._down = (time.monotonic(), error.message)
            raise
        self._down = None
        text, ended = "".join(pieces), time.monotonic()
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Generation(
            text=text,
            token_ids=self._without_stops(ids) if ids else tuple(self._tokenizer.encode(text)),
            finish_reason="length" if reason == "length" else "stop",
            prompt_tokens=prompt,
            cached_tokens=int(cached),
            ttft_ms=((first or ended) - started) * 1000,
            latency_ms=(ended - started) * 1000,
            tokens=tuple(events),
        )

    def _without_stops(self, ids: Sequence[int]) -> tuple[int, ...]:
        stops = self._tokenizer.stop_ids
        return tuple(i for i in ids if i not in stops)

    async def _score(self, prompt: Sequence[int], completion: Sequence[int], name: str) -> Score:
        ids = [*prompt, *completion]
        body: dict[str, Any] = {"model": name, "prompt": ids, "temperature": 0}
        if self._settings.dialect == "vllm":
            found = await self._transport.post("completions", {**body, "max_tokens": 1, "prompt_logprobs": 0})
            each = found["choices"][0]["prompt_logprobs"]
            likely = [each[place][str(ids[place])]["logprob"] for place in range(len(prompt), len(ids))]
        else:
            echoed = {**body, "max_tokens": 0, "echo": True, "logprobs": 0}
            found = await self._transport.post("completions", echoed)
            likely = found["choices"][0]["logprobs"]["token_logprobs"][len(prompt) : len(ids)]
        return Score(float(sum(likely)), len(completion))


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    with suppress(RuntimeError):
        return asyncio.get_running_loop() is loop
    return False


async def _into(future: Future[Generation], work: Any) -> None:
    """Put what a coroutine comes to into a future, unless that was cancelled meanwhile."""
    try:
        outcome = await work
    except asyncio.CancelledError:
        future.cancel()
        raise
    except BaseException as error:
        with suppress(InvalidStateError):
            future.set_exception(error)
    else:
        with suppress(InvalidStateError):
            future.set_result(outcome)


def _events(choice: Mapping[str, Any], text: str) -> list[TokenEvent]:
    """Return a chunk's tokens, or all of its text as one where tokens are not told."""
    columns = choice.get("logprobs") or {}
    ids = choice.get("token_ids") or []
    tokens = columns.get("tokens") or []
    if not tokens:
        return [TokenEvent(ids[-1] if ids else -1, text, None, ())] if text else []
    likely = columns.get("token_logprobs") or [None] * len(tokens)
    texts = [text, *[""] * (len(tokens) - 1)]  # text that became final comes with the first
    places = ids if len(ids) == len(tokens) else [-1] * len(tokens)
    return [
        TokenEvent(id_, shown, logprob, (), token, token.encode())
        for id_, shown, logprob, token in zip(places, texts, likely, tokens, strict=True)
    ]
