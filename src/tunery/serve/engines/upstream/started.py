"""Where a server that is started here listens, and with what it is started."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from tunery.core.errors import ConfigError, ConflictError
from tunery.serve.engines.upstream.server import Server
from tunery.serve.engines.upstream.settings import StartedEngineSettings
from tunery.serve.server_process import Command

_HOST = "127.0.0.1"
_KEYS = ("VLLM_API_KEY", "LLAMA_API_KEY")
"""Variables from which servers take the key that they ask for."""


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def started_server(
    settings: StartedEngineSettings,
    command: Sequence[str],
    *,
    words: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Return a server on the loopback address, with a key of its own that nobody else knows.

    Args:
        settings: Its address, where it must have one; else a free port is taken.
        command: Program and arguments, in which ``{host}``, ``{port}`` and the words are filled in.
        words: What is filled in besides.
        environment: Variables that it needs.

    Raises:
        ConfigError: The address is of another machine.
        ConflictError: Something listens there already.
    """
    host, port = _HOST, 0
    if settings.base_url is not None:
        address = urlsplit(settings.base_url)
        host, port = address.hostname or _HOST, address.port or 80
        if host not in (_HOST, "localhost"):
            raise ConfigError(
                f"engine.command starts a server on this machine, and {settings.base_url} is another",
                hint="leave engine.base_url out, or engine.command",
            )
    if port and _is_taken(port):
        raise ConflictError(
            f"something answers at {settings.base_url} already",
            hint="leave engine.command out to use it, or engine.base_url to have a free port taken",
        )
    port = port or free_port()
    known = {"host": host, "port": str(port), **words}
    key = os.environ.get(settings.api_key_env or "") or f"local-{secrets.token_urlsafe(24)}"
    filled = Command(
        tuple(_filled(argument, known) for argument in command),
        {**dict.fromkeys(_KEYS, key), **(environment or {})},
        (key,),
        settings.log,
        settings.start_s,
    )
    return Server(settings.base_url or f"http://{host}:{port}/v1", key, filled)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_HOST, port)) == 0


def _filled(argument: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        argument = argument.replace("{" + word + "}", value)
    return argument
