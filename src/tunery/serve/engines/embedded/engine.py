"""The embedded engine: completions in process, from the Hugging Face weights and PEFT adapters themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from tunery.core.engine import Generation, GenerationRequest, Score, TokenEvent
from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.config import EngineSettings
from tunery.serve.engines.embedded.causal_lm import CausalLm
from tunery.serve.engines.embedded.constraints import Grammars
from tunery.serve.engines.embedded.decoder import Decoder
from tunery.serve.engines.embedded.lora import BASE, LoraPair
from tunery.serve.engines.embedded.peft_folder import read_peft_folder
from tunery.serve.engines.embedded.prefix_cache import PrefixCache
from tunery.serve.engines.embedded.request import CompletionRow, Row, ScoreRow
from tunery.serve.engines.embedded.sampling import generator
from tunery.serve.engines.embedded.scheduler import Scheduler
from tunery.serve.engines.embedded.text_stream import TextStream

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Loaded:
    number: int
    folder: Path
    stamp: tuple[int, int]
    """Size and modification time of the weights, so that other weights at the same path are noticed."""


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

    def __init__(self, base: Path, *, settings: EngineSettings | None = None) -> None:
        self.settings = settings or EngineSettings()
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        base = Path(base)
        self.tokenizer = load_tokenizer(base)
        device = _device(self.settings.device)
        self._model = CausalLm(base, device=device, dtype=getattr(torch, self.settings.dtype))
        self.context_window = min(self._model.context_window, self.settings.max_cache_tokens)
        """Tokens a prompt and its completion may have together [count]."""
        self.vocab_size = self._model.vocab_size
        """Ids the model knows [count]; how many alternatives ``logprobs`` can list."""
        self._grammars = Grammars(self.tokenizer.hf, self.tokenizer.stop_ids)
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
        self._death: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tunery-engine", daemon=True)
        self._thread.start()

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
        self._in_engine_thread(lambda: self._install(number, pairs))
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

    def _install(self, number: int, pairs: dict[str, LoraPair]) -> None:
        self._model.adapters.add(number, pairs)

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
        row = self._completion_row(request, on_token)
        self._enqueue([row], [request.adapter])
        return row.future

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Complete many prompts, batched, and return them in order.

        Requests run sorted by adapter and prompt, so that those behind one prefix run together.

        Raises:
            NotFoundError: An adapter is not loaded.
            ConfigError: A request is wrong.
            ResourceError: The engine has stopped.
        """
        rows = [self._completion_row(request, None) for request in requests]
        order = sorted(range(len(rows)), key=lambda i: (requests[i].adapter or "", requests[i].prompt))
        self._enqueue([rows[i] for i in order], [requests[i].adapter for i in order])
        return _results([row.future for row in rows])

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        """Return the likelihood of each (prompt ids, completion ids) pair.

        The output layer runs for completion tokens only.

        Raises:
            NotFoundError: The adapter is not loaded.
            ConfigError: A prompt is empty or a row does not fit; lists all rows at fault.
            ResourceError: The engine has stopped.
        """
        problems = []
        for number, (prompt, completion) in enumerate(rows):
            problem = self._problem_of(prompt) or self._problem_of([*prompt, *completion], room=0)
            if problem:
                problems.append(f"row {number}: {problem}")
        if problems:
            raise ConfigError.of_problems("score", problems, limit=20)
        futures: list[Future[Score]] = [Future() for _ in rows]
        waiting: list[Row] = []
        for future, (prompt, completion) in zip(futures, rows, strict=True):
            if not completion:
                future.set_result(Score(0.0, 0))
                continue
            waiting.append(
                ScoreRow(
                    adapter=BASE,
                    tokens=[*prompt, *completion],
                    prompt=np.array(prompt, dtype=np.int64),
                    future=future,
                    arrival=0,
                    first=len(prompt),
                )
            )
        waiting.sort(key=lambda row: row.tokens)
        self._enqueue(waiting, [adapter] * len(waiting))
        return _results(futures)

    def _completion_row(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None
    ) -> CompletionRow:
        sampling = request.sampling
        problem = self._problem_of(request.prompt, room=1)
        if problem:
            raise ConfigError(problem, param="messages")
        if sampling.max_tokens < 1:
            raise ConfigError(f"max_tokens={sampling.max_tokens} must be at least 1", param="max_tokens")
        if not 0 <= sampling.temperature < float("inf"):
            raise ConfigError(f"temperature={sampling.temperature} must be 0 or more", param="temperature")
        if not 0 < sampling.top_p <= 1:
            raise ConfigError(f"top_p={sampling.top_p} must be above 0 and at most 1", param="top_p")
        if sampling.logprobs is not None and not 0 <= sampling.logprobs <= self._model.vocab_size:
            raise ConfigError(f"logprobs={sampling.logprobs} is out of range", param="top_logprobs")
        return CompletionRow(
            adapter=BASE,
            tokens=list(request.prompt),
            prompt=np.array(request.prompt, dtype=np.int64),
            future=Future(),
            arrival=0,
            request=request,
            max_tokens=min(sampling.max_tokens, self.context_window - len(request.prompt)),
            stream=TextStream(self.tokenizer, sampling.stop),
            source=generator(sampling.seed),
            constraint=self._grammars.start(request.constraint) if request.constraint else None,
            on_token=on_token,
        )

    def _problem_of(self, tokens: Sequence[int], *, room: int = 0) -> str | None:
        if not tokens:
            return "the prompt is empty"
        if len(tokens) + room > self.context_window:
            return (
                f"the prompt's {len(tokens)} tokens leave no room in the context window of "
                f"{self.context_window} tokens"
            )
        if min(tokens) < 0 or max(tokens) >= self._model.vocab_size:
            return f"token ids must be from 0 to {self._model.vocab_size - 1}"
        return None

    def _enqueue(self, rows: Sequence[Row], adapters: Sequence[str | None]) -> None:
        with self._wake:
            self._check_alive()
            numbers = [self._number_of(name) for name in adapters]
            for row, number in zip(rows, numbers, strict=True):
                row.adapter = number
                row.arrival = self._arrivals
                self._arrivals += 1
            self._incoming += rows
            self._wake.notify_all()

    # Life

    def healthy(self) -> bool:
        """Return whether the engine answers."""
        with self._wake:
            return self._death is None and not self._closing and self._thread.is_alive()

    def close(self) -> None:
        """Stop: waiting requests are cancelled, running ones end with what they have."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _check_alive(self) -> None:
        if self._death is not None:
            raise ResourceError(f"the engine stopped: {self._death}", hint="start the server again")
        if self._closing:
            raise ResourceError("the engine is closed")

    def _in_engine_thread(self, work: Callable[[], T]) -> T:
        if threading.current_thread() is self._thread:
            return work()
        done: Future[T] = Future()

        def command() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        with self._wake:
            self._check_alive()
            self._commands.append(command)
            self._wake.notify_all()
        return done.result()

    def _run(self) -> None:
        try:
            while self._take_in():
                self._scheduler.drop_cancelled()
                if not self._scheduler.idle:
                    self._decoder.step()
        except BaseException as error:
            self._end(error)
        else:
            self._end(None)

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
        with self._wake:
            self._death = error
            self._closing = True
            commands, self._commands = self._commands, []
            waiting = [*self._scheduler.waiting, *self._incoming]
            self._incoming = []
        for row in waiting:
            if error is None:
                row.future.cancel()
            else:
                row.fail(_as_told(error))
        for row in self._scheduler.rows:
            if error is None and isinstance(row, CompletionRow):
                row.stream.finish()
                row.finish("cancelled", row.generated)
            elif error is None:
                row.future.cancel()
            else:
                row.fail(_as_told(error))
        for command in commands:
            command()  # harmless on a model that no longer runs, and whoever waits goes on


def _as_told(error: BaseException) -> ResourceError:
    told = ResourceError(
        f"the engine stopped: {type(error).__name__}: {error}", hint="start the server again"
    )
    told.__cause__ = error
    return told


def _results(futures: Sequence[Future[Any]]) -> list[Any]:
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _stamp(folder: Path) -> tuple[int, int]:
    try:
        stat = (folder / "adapter_model.safetensors").stat()
    except OSError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is not one; write auto, cpu or cuda", param="device") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {name}: this PyTorch sees no CUDA GPU", hint="device: auto", param="device"
        )
    return device
