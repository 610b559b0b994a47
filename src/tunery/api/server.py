"""Listening: the port first, then the parts, then the requests."""

from __future__ import annotations

import gc
import logging
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI

from tunery.api.app import create_app
from tunery.api.config import ServerSettings
from tunery.api.connections import protocol_within
from tunery.api.drain import Drain, end_process_after
from tunery.core.errors import ConfigError, ConflictError, UpstreamRefusedError
from tunery.core.progress import Progress, Silent
from tunery.core.training import BaseModelInfo
from tunery.pipeline.gateway.bases import BasePool, OpenBase, Opened
from tunery.serve.engines import EngineSettings, base_behind, engine_settings, open_engine
from tunery.serve.engines.upstream.settings import StartedEngineSettings
from tunery.store.workspace import Workspace
from tunery.traffic.fair_queue import Capacity

_LOG = logging.getLogger(__name__)
_OTHER_FILES = 256
"""Files that a server opens beside connections: database, weights, uploads, logs [count]."""
FIRST_KEY = "first"
"""Name of the key that the first start creates."""


class ConnectionDetails(NamedTuple):
    """What a person needs to know to call the server."""

    url: str
    """What clients take as ``base_url``."""
    base: str
    """Name of the base model."""
    secret: str | None
    """The first API key, shown this once; None on every later start."""


def serve(
    workspace: Workspace,
    settings: ServerSettings,
    *,
    announce: Callable[[ConnectionDetails], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Serve until interrupted.

    Args:
        announce: Called once requests can come; writes to stderr by default.
        progress: Shows the base model's one-time conversion.

    Raises:
        ConflictError: The port is in use; nothing was started.
        ConfigError: The address does not exist, or the base cannot be served.
        NotFoundError: There is no such base.
    """
    from tunery.store.left_overs import left_overs

    with bind(settings) as listening:
        left_overs(workspace.root, remove=True)
        base, bases = served_bases(workspace, settings, progress=progress or Silent())
        details = ConnectionDetails(f"{_url(listening)}/v1", base.name, first_key(workspace, settings))
        app = create_app(workspace, bases, settings)
        _allow_open_files(2 * settings.connections.max_connections + _OTHER_FILES)
        try:
            (announce or _announce)(details)
            http_server(app, settings).run(sockets=[listening])
        finally:
            bases.close()


def served_bases(
    workspace: Workspace, settings: ServerSettings, *, progress: Progress
) -> tuple[BaseModelInfo, BasePool]:
    """Return the base that the settings name and the bases that answer, none of them opened yet.

    Raises:
        ConfigError: The base cannot be served.
        NotFoundError: There is no such base.
    """
    base = hosted_base(settings.engine) or _resolved(workspace, settings, progress)
    bases = BasePool(
        base,
        settling(engine_opener(_logged(settings.engine, workspace))),
        max_adapters=settings.max_adapters,
        breaker=settings.traffic.breaker,
    )
    return base, bases


def hosted_base(settings: EngineSettings) -> BaseModelInfo | None:
    """Return what stands for the weights of a model that is forwarded to; None where weights lie here."""
    return None if settings.own_base is None else base_behind(settings)


def _resolved(workspace: Workspace, settings: ServerSettings, progress: Progress) -> BaseModelInfo:
    from tunery.model.bases import resolve_base
    from tunery.registry.lineage import base_changed_since

    base = resolve_base(
        settings.base, workspace.root / "models", chat_template=settings.chat_template, progress=progress
    )
    if changed := base_changed_since(workspace, base):
        progress.event(changed, level="warn")
    return base


class HttpServer(uvicorn.Server):
    """uvicorn's server with an end that comes in time, whatever runs."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; the first one starts the clock."""
        if not self.should_exit:
            end_process_after(self._drain.grace_s, sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: no new requests, time for those that run, then no time any more."""
        self._drain.begin()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def http_server(app: FastAPI, settings: ServerSettings, *, log_level: str = "warning") -> HttpServer:
    """Return what serves an app within the settings' bounds."""
    drain, limits = app.state.services.drain, settings.connections
    config = uvicorn.Config(
        app,
        http=protocol_within(limits),
        ws="none",
        h11_max_incomplete_event_size=limits.max_head_bytes,
        timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]  # a delay of the event loop
        timeout_graceful_shutdown=drain.cancel_s,
        proxy_headers=False,  # who is asked is told by keys, never by what a header claims
        server_header=False,
        log_level=log_level,
        access_log=False,
        lifespan="on",
    )
    return HttpServer(config, drain)


def _allow_open_files(count: int) -> None:
    """Let this process open more files than the usual 1,024, as far as the system lets it.

    Else connections within the settings' limit would leave none for the database.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bind(settings: ServerSettings) -> socket.socket:
    """Take the port, before anything else is started.

    Raises:
        ConflictError: Another process has it.
        ConfigError: This machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigError(f"host {settings.host!r}: {error.strerror}", param="host") from None
    listening = socket.socket(family, kind, protocol)
    try:
        # A port that a killed server left in TIME_WAIT is free; one that somebody listens on is not.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except PermissionError as error:
        listening.close()
        raise ConfigError(
            f"port {settings.port} may not be taken: {error.strerror}", hint="--port 8000", param="port"
        ) from None
    except OSError as error:
        listening.close()
        raise ConflictError(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}",
            hint=f"tunery serve --port {min(settings.port + 1, 65_535)}, or --port 0 for any free one",
            param="port",
        ) from None
    return listening


def first_key(workspace: Workspace, settings: ServerSettings) -> str | None:
    """Create the first API key where keys are required and none exists; return its secret."""
    if not settings.auth or workspace.keys.list(limit=1):
        return None
    return workspace.keys.create(FIRST_KEY).secret


def engine_opener(settings: EngineSettings | None = None) -> OpenBase:
    """Return what opens a base's engine; what computes is loaded with the first request that needs it."""

    def open_hosted(info: BaseModelInfo, hosted: BaseModelInfo, engine: EngineSettings) -> Opened:
        from tunery.serve.hosted_tokenizer import HostedTokenizer

        if info.sha256 != hosted.sha256:  # else the hosted model would answer in the name of another
            raise ConfigError(
                f"this server forwards to {hosted.name} and cannot answer as a version on {info.name}",
                hint="serve that version by another server, with engine.kind=embedded or vllm",
                param="model",
            )
        window = engine.window or 0
        return Opened(open_engine(Path(), engine), HostedTokenizer(window), capacity_of(engine))

    def open_base(info: BaseModelInfo) -> Opened:
        if info.hosted is not None:
            try:
                return open_hosted(info, info, engine_settings(info.hosted))
            except ConfigError as error:  # no client's mistake: this server lacks its key, say
                _LOG.error("%s: %s", info.name, error)
                raise UpstreamRefusedError(f"this server cannot use the endpoint of {info.name}") from None
        if settings is not None and (hosted := hosted_base(settings)) is not None:
            return open_hosted(info, hosted, settings)
        from tunery.model.bases import check_base
        from tunery.model.tokenizer import load_tokenizer

        check_base(info)
        engine = open_engine(Path(info.path), settings)
        opened = Opened(engine, load_tokenizer(Path(info.path)), capacity_of(settings or engine_settings()))
        try:
            check_base(info)  # nobody changed it while it was being read
        except BaseException:
            opened.engine.close()
            raise
        return opened

    return open_base


def settling(open_base: OpenBase) -> OpenBase:
    """Return what opens a base and then takes all that is loaded out of the garbage collector's sight.

    What libraries that compute keep is some hundred thousand objects that stay; walking through them again
    and again took a tenth of the event loop's time, in pauses. For a process that does nothing else.
    """

    def open_and_settle(info: BaseModelInfo) -> Opened:
        opened = open_base(info)
        gc.unfreeze()  # what an engine before this one left behind
        gc.collect()
        gc.freeze()
        return opened

    return open_and_settle


def _logged(settings: EngineSettings, workspace: Workspace) -> EngineSettings:
    """Return settings under which an engine that is a server of its own has its log in the home."""
    if isinstance(settings, StartedEngineSettings):
        return settings.logging_to(workspace.root / "logs")
    return settings


def capacity_of(settings: EngineSettings) -> Capacity:
    """Return how many requests an engine is given at once."""
    reserve = 0 if settings.slots == 1 else max(1, settings.slots // 8)
    return Capacity(settings.slots, reserve, settings.ahead)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(details: ConnectionDetails) -> None:
    lines = [f"Tunery serves {details.base} at {details.url}"]
    if details.secret:
        lines.append(f"API key, shown this once: {details.secret}")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()
