"""Base models that are being served, each with its engine and tokenizer, opened when first asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from tunery.core.engine import Engine, Generation, GenerationRequest, TokenEvent, Tokenizer
from tunery.core.training import BaseModelInfo
from tunery.store.whole_folder import require_whole


class Opened(NamedTuple):
    """What opening a base gives."""

    engine: Engine
    tokenizer: Tokenizer


OpenBase = Callable[[BaseModelInfo], Opened]


class ServedBase:
    """One base with its engine; keeps at most ``max_adapters`` adapters in it.

    Args:
        info: The base.
        opened: Its engine and tokenizer.
        max_adapters: Adapters held at once [count]; the least recently used one makes room.
    """

    def __init__(self, info: BaseModelInfo, opened: Opened, *, max_adapters: int) -> None:
        self.info = info
        self.engine = opened.engine
        self.tokenizer = opened.tokenizer
        self._max_adapters = max_adapters
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def submit(
        self,
        request: GenerationRequest,
        adapter_folder: Path | None,
        on_token: Callable[[TokenEvent], None] | None,
    ) -> Future[Generation]:
        """Load the request's adapter if need be and queue the request, as one step.

        One step, because an adapter evicted between the two would fail a request that did nothing wrong.

        Raises:
            ConfigError: The prompt does not fit, or the adapter cannot be served on this base.
            DamagedError: The adapter's files are not what they were; names each.
        """
        if request.adapter is None or adapter_folder is None:
            return self.engine.submit(request, on_token)
        with self._lock:
            if request.adapter not in self._loaded:
                require_whole(adapter_folder)
                self.engine.load_adapter(request.adapter, str(adapter_folder))
                self._loaded[request.adapter] = None
            self._loaded.move_to_end(request.adapter)
            queued = self.engine.submit(request, on_token)
            while len(self._loaded) > self._max_adapters:
                evicted, _ = self._loaded.popitem(last=False)
                self.engine.unload_adapter(evicted)  # the engine waits for its running requests
        return queued

    def forget(self, adapter: str) -> None:
        """Unload an adapter whose model version was deleted."""
        with self._lock:
            if adapter in self._loaded:
                del self._loaded[adapter]
                self.engine.unload_adapter(adapter)


class BasePool:
    """The bases that one server answers for.

    Args:
        default: The base whose name is served as a model by itself.
        open_base: Opens a base's engine; slow, and called once for each base.
        max_adapters: Adapters held in each engine at once [count].
    """

    def __init__(self, default: BaseModelInfo, open_base: OpenBase, *, max_adapters: int = 32) -> None:
        self.default = default
        self._open_base = open_base
        self._max_adapters = max_adapters
        self._served: dict[str, ServedBase] = {}
        self._lock = threading.Lock()

    def get(self, info: BaseModelInfo) -> ServedBase:
        """Return the served base with these weights, opening it the first time.

        Raises:
            ConfigError: Its folder cannot be served.
            DamagedError: Its files are not what was recorded of it.
            ResourceError: There is no memory for it.
        """
        with self._lock:
            served = self._served.get(info.sha256)
            if served is None:
                # Same hash, same weights; a recorded path may be stale, the default's was just checked.
                known = self.default if info.sha256 == self.default.sha256 else info
                served = ServedBase(known, self._open_base(known), max_adapters=self._max_adapters)
                self._served[info.sha256] = served
            return served

    def is_open(self, info: BaseModelInfo) -> bool:
        """Return whether a base's engine was opened."""
        return info.sha256 in self._served

    def problems(self) -> list[str]:
        """Return why open engines cannot answer, a sentence for each; empty while all can."""
        served = list(self._served.values())  # without the lock, which is held while a base is being loaded
        health = {base.info.name: base.engine.healthy() for base in served}
        return [f"{name}: {state.reason}" for name, state in health.items() if not state]

    def forget_adapter(self, adapter: str) -> None:
        """Unload an adapter wherever it is loaded."""
        with self._lock:
            served = list(self._served.values())
        for base in served:
            base.forget(adapter)

    def close(self) -> None:
        """Stop every engine; waiting requests are cancelled."""
        with self._lock:
            served, self._served = list(self._served.values()), {}
        for base in served:
            base.engine.close()
