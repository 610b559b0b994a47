"""The embedded engine: completions in process, from the Hugging Face weights and PEFT adapters themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunery.core.engine import Generation, GenerationRequest, Health, Score, TokenEvent
from tunery.core.errors import NotFoundError, ResourceError
from tunery.core.training import ADAPTER_WEIGHTS
from tunery.model.device import choose_device
from tunery.model.peft_folder import read_peft_folder
from tunery.model.threads import Threads
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines.embedded.admission import Admission
from tunery.serve.engines.embedded.causal_lm import CausalLm
from tunery.serve.engines.embedded.decoder import Decoder
from tunery.serve.engines.embedded.lora import BASE
from tunery.serve.engines.embedded.prefix_cache import PrefixCache
from tunery.serve.engines.embedded.request import Row
from tunery.serve.engines.embedded.scheduler import Scheduler
from tunery.serve.engines.embedded.settings import EmbeddedSettings
from tunery.store.checksums import FileIdentity, identity_of

_STUCK_S = 120.0
"""A step that takes longer is none that anybody waits for [s]."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    number: int
    folder: Path
    stamp: FileIdentity | None
    """Of the weights, so that other weights at the same path are noticed."""


class EmbeddedEngine:
    """Continuous batching, mixed adapters, a prefix cache; implements :class:`tunery.core.engine.Engine`.

    One thread owns the model and everything that changes. Other threads leave requests and commands for it,
    and it takes them between two steps.

    Args:
        base: Hugging Face folder with safetensors, tokenizer and chat template.
        settings: Memory, batch and device.

    Raises:
        ConfigError: The folder cannot be served; says why.
        ResourceError: Not enough memory.
    """

    def __init__(self, base: Path, *, settings: EmbeddedSettings | None = None) -> None:
        self.settings = settings or EmbeddedSettings()
        self._threads = Threads(self.settings.threads, exact=False)
        base = Path(base)
        self.tokenizer = load_tokenizer(base)
        self._model = CausalLm(
            base, device=choose_device(self.settings.device), dtype=getattr(torch, self.settings.dtype)
        )
        self._admission = Admission(
            self.tokenizer, context_window=self.context_window, vocab_size=self.vocab_size
        )
        cache = PrefixCache(
            max_bytes=self.settings.prefix_cache_bytes,
            bytes_per_token=self._model.shape.bytes_per_token(self._model.dtype),
        )
        arena = self._model.arena(max_tokens=self.settings.max_cache_tokens, max_rows=self.settings.max_batch)
        self._cache = cache
        self._scheduler = Scheduler(self.settings, arena, cache)
        self._decoder = Decoder(self._model, arena, self._scheduler, self.tokenizer)

        self._wake = threading.Condition()
        self._adapters: dict[str, _Loaded] = {}
        self._retired: set[int] = set()
        self._numbers = 0
        self._arrivals = 0
        self._incoming: list[Row] = []
        self._commands: list[Callable[[], None]] = []
        self._closing = False
        self._failure: BaseException | None = None
        self._step_began: float | None = None
        self._thread = threading.Thread(target=self._run, name="tunery-engine", daemon=True)
        self._thread.start()

    @property
    def context_window(self) -> int:
        """Tokens a prompt and its completion may have together [count]."""
        return min(self._model.context_window, self.settings.max_cache_tokens)

    @property
    def vocab_size(self) -> int:
        """Ids the model knows [count]; how many alternatives ``logprobs`` can list."""
        return self._model.vocab_size

    # Adapters

    def load_adapter(self, name: str, path: str) -> None:
        """Make a PEFT LoRA folder answer under ``name``; the same name and path again is free.

        A name that is loaded already moves to the new weights; requests that began on the old ones end there.

        Raises:
            NotFoundError: There is no such folder.
            ConfigError: The folder holds no adapter this engine can serve on its base; says why.
        """
        folder = Path(path)
        stamp = _stamp(folder)
        with self._wake:
            known = self._adapters.get(name)
        if known is not None and (known.folder, known.stamp) == (folder, stamp):
            return
        pairs = read_peft_folder(folder, self._model.adapters.shape_of)
        with self._wake:
            number = self._numbers
            self._numbers += 1
        self._in_engine_thread(lambda: self._model.adapters.add(number, pairs))
        with self._wake:
            self._retire(name)
            self._adapters[name] = _Loaded(number, folder, stamp)

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter once its running requests are done; unknown names are ignored."""
        with self._wake:
            self._retire(name)
            self._wake.notify_all()

    def adapters(self) -> tuple[str, ...]:
        """Return the names loaded, sorted."""
        with self._wake:
            return tuple(sorted(self._adapters))

    def _retire(self, name: str) -> None:
        loaded = self._adapters.pop(name, None)
        if loaded is not None:
            self._retired.add(loaded.number)

    def _number_of(self, name: str | None) -> int:
        if name is None:
            return BASE
        loaded = self._adapters.get(name)
        if loaded is None:
            raise NotFoundError.of("adapter", name, self._adapters, hint="tunery registry ls")
        return loaded.number

    # Requests

    def submit(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Future[Generation]:
        """Queue one request; the future can be cancelled while it waits or runs.

        Args:
            request: What to complete; ``max_tokens`` is clipped to what the context window leaves.
            on_token: Called in the engine's thread for every token; must not block.

        Raises:
            NotFoundError: The adapter is not loaded; never answered by the base instead.
            ConfigError: The prompt is empty or leaves no room in the context window, or a setting is out
                of range.
            ResourceError: The engine has stopped.
        """
        return self.prepare(request, on_token)()

    def prepare(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Callable[[], Future[Generation]]:
        """Check one request, compile its constraint, and return what queues it; raises as :meth:`submit`."""
        row = self._admission.completion(request, on_token)

        def queue() -> Future[Generation]:
            self._enqueue([row], [request.adapter])
            return row.future

        return queue

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Complete many prompts, batched, and return them in order.

        Requests run sorted by adapter and prompt, so that those behind one prefix run together.

        Raises:
            NotFoundError: An adapter is not loaded.
            ConfigError: A request is wrong.
            ResourceError: The engine has stopped.
        """
        rows = [self._admission.completion(request, None) for request in requests]
        order = sorted(range(len(rows)), key=lambda i: (requests[i].adapter or "", requests[i].prompt))
        self._enqueue([rows[i] for i in order], [requests[i].adapter for i in order])
        return _results([row.future for row in rows])

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        """Return the likelihood of each (prompt ids, completion ids) pair.

        What several begin with is computed once, completions that differ in their last token in one pass, and
        the output layer runs for completion tokens only.

        Raises:
            NotFoundError: The adapter is not loaded.
            ConfigError: A prompt is empty or a row does not fit; lists all rows at fault.
            ResourceError: The engine has stopped.
        """
        places = self._admission.scores(rows)
        waiting = list({id(place.row): place.row for place in places if place.row is not None}.values())
        waiting.sort(key=lambda row: row.tokens)
        self._enqueue(waiting, [adapter] * len(waiting))
        _results([row.future for row in waiting])
        return [Score(0.0, 0) if row is None else row.scores[place] for row, place in places]

    def _enqueue(self, rows: Sequence[Row], adapters: Sequence[str | None]) -> None:
        with self._wake:
            if stopped := self._stopped():
                raise stopped
            numbers = [self._number_of(name) for name in adapters]
            for row, number in zip(rows, numbers, strict=True):
                row.adapter = number
                row.arrival = self._arrivals
                self._arrivals += 1
            self._incoming += rows
            self._wake.notify_all()

    # Life

    def healthy(self) -> Health:
        """Return whether the engine answers, and why not."""
        with self._wake:
            stopped = self._stopped()
        if stopped is not None:
            return Health(stopped.message, stopped=True)
        began = self._step_began
        stuck_s = 0.0 if began is None else time.monotonic() - began
        if stuck_s > _STUCK_S:
            return Health(f"the engine has been at one step for {stuck_s:.0f} s")
        return Health()

    def close(self) -> None:
        """Stop: waiting requests are cancelled, running ones end with what they have."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _stopped(self) -> ResourceError | None:
        """Return why nothing is answered any more; the lock is held."""
        if self._failure is not None:
            return _stopped_by(self._failure)
        return ResourceError("the engine is closed") if self._closing else None

    def _in_engine_thread(self, work: Callable[[], None]) -> None:
        if threading.current_thread() is self._thread:
            work()
            return
        done: Future[None] = Future()

        def command() -> None:
            try:
                work()
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        with self._wake:
            if stopped := self._stopped():
                raise stopped
            self._commands.append(command)
            self._wake.notify_all()
        done.result()

    def _run(self) -> None:
        failure = None
        try:
            while self._take_in():
                self._scheduler.drop_cancelled()
                if not self._scheduler.idle:
                    self._step_began = time.monotonic()
                    self._threads.adapt()
                    self._decoder.step()
                    self._step_began = None
        except BaseException as error:
            failure = error
        self._end(failure)

    def _take_in(self) -> bool:
        """Wait for something to do and take it in; False when closing."""
        with self._wake:
            while not (self._incoming or self._commands or self._closing) and self._scheduler.idle:
                self._drop_retired()
                self._wake.wait()
            commands, self._commands = self._commands, []
            self._scheduler.waiting.extend(self._incoming)
            self._incoming = []
            self._drop_retired()
            closing = self._closing
        for command in commands:
            command()
        return not closing

    def _drop_retired(self) -> None:
        """Free adapters that no request needs any more; the lock is held."""
        if not self._retired:
            return
        scheduler = self._scheduler
        needed = {row.adapter for row in (*scheduler.rows, *scheduler.waiting, *self._incoming)}
        for number in self._retired - needed:
            self._model.adapters.remove(number)
            self._cache.forget(number)
        self._retired &= needed

    def _end(self, error: BaseException | None) -> None:
        """Answer everyone who still waits; ``error`` is what stopped the engine, None for :meth:`close`."""
        with self._wake:
            self._failure = error
            self._closing = True
            commands, self._commands = self._commands, []
            waiting = [*self._scheduler.waiting, *self._incoming]
            self._incoming = []
        if error is None:
            for row in waiting:
                row.future.cancel()
            for row in self._scheduler.rows:
                row.abandon()
        else:
            for row in (*waiting, *self._scheduler.rows):
                row.fail(_stopped_by(error))  # one each: an exception collects the traceback of who raises it
        for command in commands:
            command()  # harmless on a model that no longer runs, and whoever waits goes on


def _stopped_by(error: BaseException) -> ResourceError:
    stopped = ResourceError(
        f"the engine stopped: {type(error).__name__}: {error}", hint="start the server again"
    )
    stopped.__cause__ = error
    return stopped


def _results(futures: Sequence[Future[Any]]) -> list[Any]:
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _stamp(folder: Path) -> FileIdentity | None:
    try:
        return identity_of(folder / ADAPTER_WEIGHTS)
    except OSError:
        return None
