"""The engine port in front of an upstream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from tunery.core.engine import (
    Generation,
    GenerationRequest,
    Health,
    Score,
    TokenEvent,
    Tokenizer,
    UpstreamState,
)
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines.upstream.dialect import AlreadyLoadedError, Dialect
from tunery.serve.engines.upstream.native import NativeParts
from tunery.serve.engines.upstream.pool import Pool, Upstream
from tunery.serve.engines.upstream.server import Server
from tunery.serve.engines.upstream.settings import ServerEngineSettings
from tunery.serve.server_process import ServerProcess

_DOWN_S = 5.0
"""How long an upstream that could not be reached is taken to be away [s]."""
_LOOK_S = 0.05


class UpstreamEngine:
    """Completions of a server elsewhere, or of one that is started and watched here.

    Args:
        base: Folder of the base that the server answers with: its tokenizer writes prompts here. Of a model
            that is no folder here, what stands for its tokenizer; such a one need not be listed there.
        settings: How long it is waited for.
        dialect: How it is spoken to.
        servers: Where it is, and what starts it; where there are several, all have the same weights.
        adapters: Those that it has from its start, name to folder.

    Raises:
        NotFoundError: An upstream does not list the model.
        ResourceError: None can be reached, or it cannot be started.
    """

    def __init__(
        self,
        base: Path | Tokenizer,
        settings: ServerEngineSettings,
        dialect: Dialect,
        servers: Sequence[Server],
        *,
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        self._dialect = dialect
        self._tokenizer: Tokenizer = load_tokenizer(str(base)) if isinstance(base, Path) else base
        self._server = servers[0]
        self._pool = Pool(settings, servers, self._problem, self._prepare_again)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = Lock()
        self._loaded = dict(adapters or {})
        self._closed = False
        self._down: tuple[float, str] | None = None
        self._process: ServerProcess | None = None
        try:
            if servers[0].command is not None:
                self._process = ServerProcess(
                    servers[0].command, self._answers, lambda: self._load_at(self._pool.first, set())
                )
            self._is_listed = isinstance(base, Path)
            self._model = settings.model or ""
            window = self._least_window() if self._is_listed else None
        except BaseException:
            self.close()
            raise
        own = self._tokenizer.max_tokens
        self._window = settings.context_window or min(own, window or own)

    @property
    def context_window(self) -> int:
        """Tokens that a prompt and its completion may have together [count]."""
        return self._window

    @property
    def tokenizer(self) -> Tokenizer:
        """What prompts are written with."""
        return self._tokenizer

    @property
    def relays(self) -> bool:
        """Preparing and sending wait for nothing."""
        return True

    @property
    def is_native(self) -> bool:
        """Whether the server reads tools itself and gives answers in parts."""
        return self._dialect.is_native

    async def leave(self) -> None:
        """Close the connections of this event loop."""
        await self._pool.leave()

    @property
    def started_server(self) -> Server | None:
        """The server that was started here; None where it runs elsewhere."""
        return self._server if self._process is not None else None

    @property
    def upstreams(self) -> tuple[UpstreamState, ...]:
        """How the servers stand, where they are several."""
        return self._pool.states

    def healthy(self) -> Health:
        """Return whether the upstream answered last, or has not been asked for some seconds."""
        down = self._down
        if self._closed:
            return Health("the engine is closed", stopped=True)
        if problem := self._problem():
            return Health(problem)
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
            self._pool.each(lambda one: self._load(one, name, path))
            self._loaded[name] = path

    def unload_adapter(self, name: str) -> None:
        """Have it forget an adapter; unknown names are ignored."""
        with self._lock:
            if self._loaded.pop(name, None) is not None:
                self._pool.each(lambda one: self._dialect.unload(one.post, name))

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
        body, loop = self._body(request), self._pool.first.transport.loop()

        def send() -> Future[Generation]:
            if self._closed:
                raise ResourceError("the engine is closed")
            future: Future[Generation] = Future()
            work = self._answered(body, request, on_token)
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
            scored = (self._dialect.score(self._pool.post, p, done, name) for p, done in rows)
            return list(await asyncio.gather(*scored))

        return self._pool.first.transport.wait(all_rows())

    def tokenized(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that llama.cpp's server reads in texts, special tokens by their names."""

        async def all_texts() -> list[list[int]]:
            bodies = [{"content": text, "add_special": False, "parse_special": True} for text in texts]
            found = await asyncio.gather(*(self._pool.post("tokenize", body) for body in bodies))
            return [list(answer["tokens"]) for answer in found]

        return self._pool.first.transport.wait(all_texts())

    def close(self) -> None:
        """Send nothing more, break off what is in flight, and end a server that was started here."""
        self._closed = True
        for task in list(self._tasks):
            with suppress(RuntimeError):  # its event loop is gone, and it with that
                task.get_loop().call_soon_threadsafe(task.cancel)
        self._pool.close()
        if self._process is not None:
            self._process.close()

    def close_when_idle(self) -> None:
        """Take no more requests, wait for those in flight, and close."""
        self._closed = True
        while self._tasks:
            time.sleep(_LOOK_S)
        self.close()

    def _begin(self, loop: asyncio.AbstractEventLoop, future: Future[Generation], work: Any) -> None:
        """Start a request's task; the future and the task end each other."""
        task: asyncio.Task[None] = loop.create_task(_into(future, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def ended(done: Future[Generation]) -> None:
            if done.cancelled() and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        future.add_done_callback(ended)

    def _problem(self) -> str | None:
        """Return why a server that was started here does not answer now; None for every other."""
        return self._process.problem if self._process is not None else None

    def _answers(self) -> bool:
        with suppress(ResourceError, ConfigError):
            transport = self._pool.first.transport
            transport.wait(transport.get("health"))
            return True
        return False

    def _prepare_again(self, one: Upstream) -> None:
        """See that a server answers again, and load what it lost; raises where it cannot be used."""
        if self._is_listed:
            listed = self._models(one)
        else:
            with suppress(ConfigError):  # it answers, and that is what counts
                one.transport.wait(one.transport.get("v1/models"))
            listed = {}
        self._load_at(one, set(listed))

    def _load_at(self, one: Upstream, there: Collection[str]) -> None:
        """Load what is not there of what was loaded before a server was started anew."""
        with self._lock:
            for name, path in self._loaded.items() if self._dialect.takes_adapters else ():
                if name not in there:
                    self._load(one, name, path)

    def _load(self, one: Upstream, name: str, path: str) -> None:
        """Have a server load an adapter that another process which uses it may have loaded there."""
        try:
            self._dialect.load(one.post, name, path)
        except AlreadyLoadedError:
            listed = one.transport.wait(one.transport.get("v1/models"))["data"]
            if any(model["id"] == name and model.get("root") == path for model in listed):
                return
            self._dialect.unload(one.post, name)
            self._dialect.load(one.post, name, path)

    def _least_window(self) -> int | None:
        """Return the smallest window of the servers that can be reached; None where none is listed."""
        windows: list[int] = []

        def look(one: Upstream) -> None:
            window = self._models(one)[self._model]
            windows.extend([] if window is None else [window])

        self._pool.each(look)
        return min(windows, default=None)

    def _models(self, one: Upstream) -> dict[str, int | None]:
        """Return the models listed at a server, with their windows where they are told.

        Raises:
            NotFoundError: The base is not among them.
        """
        answer = one.transport.wait(one.transport.get("v1/models")) or {}
        listed = {str(model["id"]): model.get("max_model_len") for model in answer.get("data", ())}
        self._model = self._model or next(iter(listed), "")
        if self._is_listed and self._model not in listed:
            raise NotFoundError.of("model", self._model, listed, hint="set engine.model to one it serves")
        return listed

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
        if request.prompt_logprobs is not None:
            raise ConfigError("the upstream engine does not pass on likelihoods of the prompt", param="echo")
        name = self._name_of(request.adapter)
        return self._dialect.body(request, name, min(sampling.max_tokens, room))

    async def _answered(
        self,
        body: Mapping[str, Any],
        request: GenerationRequest,
        on_token: Callable[[TokenEvent], None] | None,
    ) -> Generation:
        """Return a completion, its tokens handed on as they come."""
        started, most = time.monotonic(), request.sampling.logprobs
        pieces: list[str] = []
        ids: list[int] = []
        events: list[TokenEvent] = []
        first, reason, cached, generated, ended_by_token = None, None, 0, 0, False
        prompt, parts, upstream = len(request.prompt), NativeParts(), None

        def chosen(name: str) -> None:
            nonlocal upstream
            upstream = name

        try:
            async for chunk in self._pool.stream(self._dialect.path, body, chosen):
                piece = self._dialect.piece(chunk)
                first = first or time.monotonic()
                pieces.append(piece.text)
                ids += piece.token_ids
                reason = piece.finish_reason or reason
                cached = piece.cached_tokens or cached
                generated = piece.generated_tokens or generated
                ended_by_token = piece.ended_by_token
                prompt = piece.prompt_tokens or prompt
                if piece.calls or piece.refusal:
                    more = parts.take(piece.calls, piece.refusal)
                    if on_token is not None:
                        on_token(TokenEvent(-1, "", None, (), native=more, upstream=upstream))
                if on_token is None and most is None:
                    continue
                for event in piece.events():
                    event = event._replace(top=event.top[: most or 0])
                    events += [event] if most is not None else []
                    if on_token is not None:
                        on_token(event if upstream is None else event._replace(upstream=upstream))
            if reason is None:
                raise ResourceError("the upstream broke off its answer", hint="try again shortly")
        except ResourceError as error:
            self._down = (time.monotonic(), error.message)
            raise
        self._down = None
        text, ended = "".join(pieces), time.monotonic()
        # llama.cpp leaves out ids of tokens that end within a character.
        whole = ids if len(ids) >= generated else []
        native = parts.answer(text, reason) if self._dialect.is_native else None
        if native is not None:
            text = native.text
        if native is not None and generated:  # there are no ids, and its count stands for them
            token_ids: tuple[int, ...] = (-1,) * (generated - (reason != "length"))
        else:
            token_ids = self._without_end(whole, request, ended_by_token=ended_by_token) or tuple(
                self._tokenizer.encode(text)
            )
        return Generation(
            text=text,
            token_ids=token_ids,
            finish_reason="length" if reason == "length" else "stop",
            prompt_tokens=prompt,
            cached_tokens=int(cached),
            ttft_ms=((first or ended) - started) * 1000,
            latency_ms=(ended - started) * 1000,
            tokens=tuple(events),
            native=native,
            upstream=upstream,
        )

    def _without_end(
        self, ids: list[int], request: GenerationRequest, *, ended_by_token: bool
    ) -> tuple[int, ...]:
        """Return ids without the one that ended them."""
        sampling = request.sampling
        ends = {*(() if sampling.ignore_eos else self._tokenizer.stop_ids), *sampling.stop_token_ids}
        return tuple(ids[:-1] if ids and (ended_by_token or ids[-1] in ends) else ids)


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
