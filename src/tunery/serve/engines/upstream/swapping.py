"""llama.cpp with a set of adapters that changes: a server with the new set takes the place of the old one."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from tunery.core.cores import usable_cores
from tunery.core.engine import Generation, GenerationRequest, Health, Score, TokenEvent
from tunery.core.errors import NotFoundError, ResourceError
from tunery.model.gguf.architecture import Architecture
from tunery.model.gguf.write import write_adapter, write_model
from tunery.model.tokenizer import load_tokenizer
from tunery.serve.engines.llamacpp import LlamaCppSettings
from tunery.serve.engines.upstream.engine import UpstreamEngine
from tunery.serve.engines.upstream.llamacpp import LlamaCppDialect
from tunery.serve.engines.upstream.started import started_server

_SERVER = Path(__file__).parents[2] / "llamacpp_server.py"
_DRAIN_S = 20.0
"""How long the end waits for servers that still answer [s]."""
_WRITER = 1
"""Raise it when what is written of a base changes, so that kept files are written anew."""


class SwappingEngine:
    """Completions of llama.cpp.

    Its server takes adapters when it starts. For one more, a second server is started beside the first, which
    answers on until the second does, and ends with its last answer. Both map the same file, so the weights of
    the base are in memory once.

    Args:
        base: Hugging Face folder.
        settings: How the server computes.

    Raises:
        ConfigError: The base has no form in GGUF, or the file to serve is missing.
        ResourceError: The server cannot be started.
    """

    def __init__(self, base: Path, settings: LlamaCppSettings) -> None:
        own = load_tokenizer(str(base)).max_tokens
        window = min(settings.context_window or own, own, Architecture(base).context_length)
        self._base, self._settings = base, settings.model_copy(update={"context_window": window})
        self._model = _model_file(base, settings)
        self._lock = threading.Lock()
        """Held for moments only: which server answers, and which adapters it has."""
        self._loading = threading.Lock()
        """Held while a server starts; nobody waits for it but who needs another adapter."""
        self._closed = False
        self._sources: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        self._draining: list[threading.Thread] = []
        self._folder = Path(tempfile.mkdtemp(prefix="tunery-gguf-"))
        try:
            self._current = self._started({})
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    @property
    def context_window(self) -> int:
        """Tokens that a prompt and its completion may have together [count]."""
        return self._current.context_window

    def healthy(self) -> Health:
        """Return whether the server is up."""
        return self._current.healthy()

    def load_adapter(self, name: str, path: str) -> None:
        """Start a server that has one adapter more, and let it take over.

        Raises:
            ConfigError: The folder holds no adapter that llama.cpp computes on this base; says why.
            ResourceError: There is no second server to be had; the first goes on.
        """
        with self._loading:
            if self._sources.get(name) == path:
                return
            file = self._folder / f"{name.replace('/', '-')}.gguf"
            write_adapter(self._base, Path(path), file)
            self._load(name, path, file)

    def load_adapter_file(self, name: str, file: Path) -> None:
        """Load an adapter that is a GGUF file already; raises as :meth:`load_adapter`."""
        with self._loading:
            self._load(name, str(file), file)

    def _load(self, name: str, source: str, file: Path) -> None:
        with self._lock:
            wanted = {**self._sources, name: source}
            self._files[name] = file
        started = self._started(wanted)
        with self._lock:
            if self._closed:
                started.close()
                raise ResourceError("the engine is closed")
            for gone in wanted.keys() - self._sources.keys() - {name}:  # unloaded meanwhile
                started.unload_adapter(gone)
                del wanted[gone]
            before, self._current, self._sources = self._current, started, wanted
        draining = threading.Thread(target=before.close_when_idle, name="engine-drain", daemon=True)
        draining.start()
        self._draining = [thread for thread in self._draining if thread.is_alive()] + [draining]

    def read_otherwise(self, texts: Sequence[str]) -> int:
        """Return how many texts, templates applied, llama.cpp splits into other tokens than the base's own.

        Args:
            texts: As :meth:`tunery.model.tokenizer.ChatTokenizer.template_text` writes them.
        """
        tokenizer = load_tokenizer(str(self._base))
        found = self._current.tokenized(texts)
        return sum(
            tuple(ids) != tokenizer.encode_template(text) for text, ids in zip(texts, found, strict=True)
        )

    def unload_adapter(self, name: str) -> None:
        """Refuse its name from now on; its memory is given back with the next server."""
        with self._lock:
            if self._sources.pop(name, None) is not None:
                self._current.unload_adapter(name)

    def adapters(self) -> tuple[str, ...]:
        """Return the names loaded, sorted."""
        return self._current.adapters()

    def submit(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Future[Generation]:
        """Send one request; raises as :meth:`UpstreamEngine.submit`."""
        return self.prepare(request, on_token)()

    def prepare(
        self, request: GenerationRequest, on_token: Callable[[TokenEvent], None] | None = None
    ) -> Callable[[], Future[Generation]]:
        """Check one request and return what sends it, to whichever server has taken over by then."""
        checked_by = self._current
        ready = checked_by.prepare(request, on_token)

        def send() -> Future[Generation]:
            with self._lock:
                current = self._current
                return ready() if current is checked_by else current.submit(request, on_token)

        return send

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Complete many prompts and return them in order."""
        return [future.result() for future in [self.submit(request) for request in requests]]

    def score(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: str | None = None
    ) -> list[Score]:
        """Return the likelihood of each (prompt ids, completion ids) pair."""
        return self._current.score(rows, adapter)

    def close(self) -> None:
        """End the server, and those whose place it took."""
        with self._lock:
            self._closed = True
            self._current.close()
        for thread in self._draining:
            thread.join(_DRAIN_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self, adapters: Mapping[str, str]) -> UpstreamEngine:
        settings = self._settings
        files = [str(self._files[name]) for name in adapters]
        loading = [word for path in files for word in ("--lora", path)]
        command: list[str] = []
        for argument in settings.command:
            wanted = ["--lora-init-without-apply", *loading] if loading else []
            command += wanted if argument == "{adapters}" else [argument]
        if not command:
            command = [str(settings.python or sys.executable), "-I", str(_SERVER), self._own(files)]
        server = started_server(settings, command, words={"model": str(self._model)})
        dialect = LlamaCppDialect(tuple(adapters))
        return UpstreamEngine(self._base, settings, dialect, (server,), adapters=adapters)

    def _own(self, adapters: list[str]) -> str:
        settings = self._settings
        return json.dumps(
            {
                "model": str(self._model),
                "host": "{host}",
                "port": "{port}",
                "slots": settings.max_batch,
                "context": settings.context_window,
                "threads": settings.threads or usable_cores(),
                "cache_mib": settings.cache_mib,
                "adapters": adapters,
            }
        )


def _model_file(base: Path, settings: LlamaCppSettings) -> Path:
    """Return the file to serve, written from the base where there is none yet.

    Raises:
        NotFoundError: The settings name a file that is not there.
        ConfigError: The base has no form in GGUF.
    """
    from tunery.model.bases import describe_base

    if settings.gguf is not None:
        if not settings.gguf.is_file():
            raise NotFoundError(f"engine.gguf: no file {settings.gguf}")
        return settings.gguf
    kept = settings.cache or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tunery/gguf"
    sha256 = describe_base(base, name=base.name, own_template=False).sha256
    target = kept / f"{sha256[:24]}-{settings.quantise}-{_WRITER}.gguf"
    if not target.is_file():
        kept.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{secrets.token_hex(4)}.partial")
        try:
            write_model(base, partial, settings.quantise)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target
