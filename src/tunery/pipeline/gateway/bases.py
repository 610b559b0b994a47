"""Base models that are being served, each with its engine and tokenizer, opened when first asked for."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tunery.core.breaker import BreakerSettings, CircuitBreaker, State
from tunery.core.engine import (
    Engine,
    Generation,
    GenerationRequest,
    Native,
    Preparing,
    Relaying,
    Replicated,
    TokenEvent,
    Tokenizer,
    UpstreamState,
)
from tunery.core.errors import ResourceError
from tunery.core.training import BaseModelInfo, with_its_manifest
from tunery.store.whole_folder import require_whole
from tunery.traffic.fair_queue import Capacity, FairQueue

_LOG = logging.getLogger(__name__)
_LONG_RUN_S = 60.0
"""An engine that answered for so long stops for a new reason [s]."""
_LONGEST_PAUSE_S = 60.0
"""Longest pause between two tries to open an engine again [s]."""


class Opened(NamedTuple):
    """What opening a base gives."""

    engine: Engine
    tokenizer: Tokenizer
    capacity: Capacity = Capacity(slots=32, reserve=4)
    """How many requests it is given at once."""


OpenBase = Callable[[BaseModelInfo], Opened]


class EngineState(NamedTuple):
    """How an engine stands."""

    name: str
    """Of its base."""
    circuit: State
    """``open`` and ``half_open``: it failed again and again and is left alone, or tried."""
    reason: str | None
    """The newest failure; None after a success."""
    waiting: int
    """Requests that wait for their turn [count]."""
    running: int
    """Requests that it has [count]."""
    upstreams: tuple[UpstreamState, ...] = ()
    """The servers behind it, where they are several."""

    @property
    def is_well(self) -> bool:
        """Whether nothing of it is left alone."""
        return all(circuit == "closed" for circuit in (self.circuit, *(u.circuit for u in self.upstreams)))


class ServedBase:
    """One base with its engine, which is opened again when it dies.

    Args:
        info: The base.
        opened: Its engine and tokenizer.
        max_adapters: Adapters held at once [count]; the least recently used one makes room.
        breaker: When it is left alone.
    """

    def __init__(
        self, info: BaseModelInfo, opened: Opened, *, max_adapters: int, breaker: BreakerSettings
    ) -> None:
        self.info = info
        self.breaker = CircuitBreaker(info.name, breaker)
        self.tokenizer = opened.tokenizer
        self.queue = FairQueue(opened.capacity)
        """Requests that wait for the engine."""
        self._engine: Engine | None = opened.engine
        self._relays = isinstance(opened.engine, Relaying) and opened.engine.relays
        self.is_native = isinstance(opened.engine, Native) and opened.engine.is_native
        """As :attr:`tunery.core.engine.Native.is_native`."""
        self._stopped_by = ""
        self._max_adapters = max_adapters
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._pinned: Counter[str] = Counter()
        """Adapters that a request is being queued for, and for how many."""
        self._lock = threading.Lock()
        """Held for moments only."""
        self._loading = threading.Lock()
        """Held while adapters are loaded and unloaded, which may take a while."""
        self._opened_at = self._again_at = time.monotonic()
        self._failures = 0

    def relays(self, adapter: str | None) -> bool:
        """Return whether a request may be prepared and sent where nothing may wait: in the event loop."""
        return self._relays and self.has(adapter)

    def has(self, adapter: str | None) -> bool:
        """Return whether an answer by an adapter, None for none, waits for no loading."""
        return adapter is None or adapter in self._loaded

    @property
    def engine(self) -> Engine:
        """What computes its answers.

        Raises:
            ResourceError: It stopped and is being opened again.
        """
        engine = self._engine
        if engine is None:
            raise ResourceError(f"{self._stopped_by}; it is being opened again", hint="try again shortly")
        return engine

    @property
    def window(self) -> int | None:
        """Tokens that a prompt and its answer may have together [count]; None while its engine is away."""
        engine = self._engine
        return engine.context_window if engine is not None else None

    @property
    def state(self) -> EngineState:
        """How it stands."""
        circuit, engine = self.breaker.circuit, self._engine
        return EngineState(
            self.info.name,
            circuit.state,
            circuit.reason,
            self.queue.waiting,
            self.queue.running,
            engine.upstreams if isinstance(engine, Replicated) else (),
        )

    def problem(self) -> str | None:
        """Return why it cannot answer now, None where it can."""
        engine = self._engine
        if engine is None:
            return f"{self._stopped_by}; it is being opened again"
        return engine.healthy().reason

    def prepare(
        self,
        request: GenerationRequest,
        adapter_folder: Path | None,
        on_token: Callable[[TokenEvent], None] | None,
    ) -> Callable[[], Future[Generation]]:
        """Load the request's adapter if need be, check the request, and return what gives it to the engine.

        This may compile a schema, so others do not wait for it. What is returned raises ResourceError where
        the engine has stopped meanwhile.

        Raises:
            ConfigError: The prompt does not fit, or the adapter cannot be served on this base.
            DamagedError: The adapter's files are not what they were; names each.
            ResourceError: The engine has stopped.
        """
        engine = self.engine  # the same one to the end: another has no adapters yet
        if request.adapter is not None and adapter_folder is not None:
            with self._held(engine, request.adapter, adapter_folder):
                ready = _prepared(engine, request, on_token)
            return partial(self._submit, engine, request.adapter, adapter_folder, ready)
        return _prepared(engine, request, on_token)

    def submit(
        self,
        request: GenerationRequest,
        adapter_folder: Path | None,
        on_token: Callable[[TokenEvent], None] | None,
    ) -> Future[Generation]:
        """Give a request to the engine at once; raises as :meth:`prepare`."""
        return self.prepare(request, adapter_folder, on_token)()

    def _submit(
        self, engine: Engine, adapter: str, folder: Path, ready: Callable[[], Future[Generation]]
    ) -> Future[Generation]:
        with self._held(engine, adapter, folder):
            return ready()

    @contextmanager
    def _held(self, engine: Engine, adapter: str, folder: Path) -> Iterator[None]:
        """Have an adapter loaded and keep it for the block.

        One evicted before its request is queued would fail a request that did nothing wrong.
        """
        if not self._pin(engine, adapter):
            with self._loading:
                if not self._pin(engine, adapter):
                    require_whole(with_its_manifest(folder))
                    engine.load_adapter(adapter, str(folder))
                    with self._lock:
                        self._loaded[adapter] = None
                        self._pinned[adapter] += 1
        try:
            yield
        finally:
            with self._lock:
                self._pinned[adapter] -= 1
            if len(self._loaded) > self._max_adapters:
                self._evict(engine)

    def _pin(self, engine: Engine, adapter: str) -> bool:
        """Keep an adapter where it is loaded; say whether it is.

        Raises:
            ResourceError: Another engine answers by now.
        """
        with self._lock:
            if engine is not self._engine:
                raise ResourceError("the engine stopped before the request had its turn", hint="try again")
            if adapter not in self._loaded:
                return False
            self._loaded.move_to_end(adapter)
            self._pinned[adapter] += 1
            return True

    def _evict(self, engine: Engine) -> None:
        """Make room, oldest first, unless somebody else is at it."""
        if not self._loading.acquire(blocking=False):
            return
        try:
            while (adapter := self._superfluous(engine)) is not None:
                engine.unload_adapter(adapter)  # the engine waits for its running requests
        finally:
            self._loading.release()

    def _superfluous(self, engine: Engine) -> str | None:
        """Take the adapter out that is to be unloaded next; None where there is room or each is needed."""
        with self._lock:
            if engine is not self._engine or len(self._loaded) <= self._max_adapters:
                return None
            for adapter in self._loaded:
                if self._pinned[adapter] <= 0:
                    del self._loaded[adapter], self._pinned[adapter]
                    return adapter
            return None

    def forget(self, adapter: str) -> None:
        """Unload an adapter whose model version was deleted."""
        with self._loading:
            with self._lock:
                known = adapter in self._loaded
                self._loaded.pop(adapter, None)
                engine = self._engine
            if known and engine is not None:
                engine.unload_adapter(adapter)

    def revive(self, open_base: OpenBase) -> None:
        """Open the engine again where it has stopped, waiting longer each time that it stops soon after."""
        now, engine = time.monotonic(), self._engine
        if now < self._again_at or (engine is not None and not engine.healthy().stopped):
            return
        if now - self._opened_at > _LONG_RUN_S:
            self._failures = 0
        self._failures += 1
        self._again_at = now + min(2.0**self._failures, _LONGEST_PAUSE_S)
        if engine is not None:
            self._stopped_by = engine.healthy().reason or "the engine stopped"
            _LOG.error("%s; it is opened again", self._stopped_by)
            self._engine = None  # before the next one is there: there may be no memory for both
            engine.close()
            del engine
        opened = open_base(self.info)
        with self._loading, self._lock:
            self._loaded.clear()
            self._pinned.clear()
            self._engine, self.tokenizer = opened.engine, opened.tokenizer
            self._opened_at = time.monotonic()
        _LOG.warning("the engine of %s answers again", self.info.name)

    async def leave(self) -> None:
        """Close what the engine has open in the event loop that runs this."""
        if isinstance(self._engine, Relaying):
            await self._engine.leave()

    def close(self) -> None:
        """Stop the engine; waiting requests are cancelled."""
        if self._engine is not None:
            self._engine.close()


def _prepared(
    engine: Engine, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None
) -> Callable[[], Future[Generation]]:
    """Return what gives a request to an engine, having done before what can be."""
    if isinstance(engine, Preparing):
        return engine.prepare(request, on_token)
    return partial(engine.submit, request, on_token)


class BasePool:
    """The bases that one server answers for.

    Args:
        default: The base whose name is served as a model by itself.
        open_base: Opens a base's engine; slow, and called once for each base.
        max_adapters: Adapters held in each engine at once [count].
        breaker: When an engine that fails is left alone; one that cannot be opened is left alone at once.
    """

    def __init__(
        self,
        default: BaseModelInfo,
        open_base: OpenBase,
        *,
        max_adapters: int = 32,
        breaker: BreakerSettings | None = None,
    ) -> None:
        self.default = default
        self._open_base = open_base
        self._max_adapters = max_adapters
        self._breaker = breaker or BreakerSettings()
        self._served: dict[str, ServedBase] = {}
        self._unopened: dict[str, CircuitBreaker] = {}
        self._lock = threading.Lock()

    def get(self, info: BaseModelInfo) -> ServedBase:
        """Return the served base with these weights, opening it the first time.

        Raises:
            ConfigError: Its folder cannot be served.
            DamagedError: Its files are not what was recorded of it.
            ResourceError: There is no memory for it, or it could not be opened a moment ago.
        """
        if (there := self._served.get(info.sha256)) is not None:
            return there
        with self._lock:
            served = self._served.get(info.sha256)
            if served is None:
                served = self._served[info.sha256] = self._open(info)
            return served

    def _open(self, info: BaseModelInfo) -> ServedBase:
        """Open a base; the lock is held, so where it cannot be, nobody waits for that again right away."""
        # Same hash, same weights; a recorded path may be stale, the default's was just checked.
        known = self.default if info.sha256 == self.default.sha256 else info
        once = self._breaker.model_copy(update={"failures": 1})
        opening = self._unopened.setdefault(info.sha256, CircuitBreaker(f"opening {known.name}", once))
        opening.admit()
        try:
            opened = self._open_base(known)
        except ResourceError as error:
            opening.fail(error.message)
            raise
        del self._unopened[info.sha256]
        return ServedBase(known, opened, max_adapters=self._max_adapters, breaker=self._breaker)

    def peek(self, info: BaseModelInfo) -> ServedBase | None:
        """Return the served base with these weights where it is open; waits for nothing."""
        return self._served.get(info.sha256)

    @property
    def served(self) -> tuple[ServedBase, ...]:
        """The bases that are open."""
        return tuple(self._served.values())

    def is_open(self, info: BaseModelInfo) -> bool:
        """Return whether a base's engine was opened."""
        return info.sha256 in self._served

    def window(self, info: BaseModelInfo) -> int | None:
        """Return how many tokens a prompt and its answer may have; None where the base is not open."""
        served = self._served.get(info.sha256)
        return served.window if served is not None else None

    def problems(self) -> list[str]:
        """Return why open engines cannot answer, a sentence for each; empty while all can."""
        served = list(self._served.values())  # without the lock, which is held while a base is being loaded
        return [f"{base.info.name}: {problem}" for base in served if (problem := base.problem())]

    def revive(self) -> None:
        """Open engines again that have stopped; called again and again, from one thread.

        Raises:
            ConfigError: A folder can no longer be served.
            ResourceError: There is no memory for one.
        """
        for base in list(self._served.values()):
            base.revive(self._open_base)

    def forget_adapter(self, adapter: str) -> None:
        """Unload an adapter wherever it is loaded, and the engine of one that is a model of its own."""
        with self._lock:
            served = list(self._served.values())
            own = [base for base in served if base.info.name == adapter]
            for base in own:
                del self._served[base.info.sha256]
        for base in served:
            base.forget(adapter)
        for base in own:
            base.close()

    async def leave(self) -> None:
        """Close what engines have open in the event loop that runs this, which is about to end."""
        for base in self.served:
            await base.leave()

    def close(self) -> None:
        """Stop every engine; waiting requests are cancelled."""
        with self._lock:
            served, self._served = list(self._served.values()), {}
        for base in served:
            base.close()
