"""Where a server of completions is, and what starts it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tunery.core.errors import ConfigError
from tunery.serve.engines.upstream.settings import ServerEngineSettings
from tunery.serve.server_process import Command


class Server(NamedTuple):
    """What an engine speaks to."""

    base_url: str
    """Its address up to and including the version."""
    key: str | None = None
    """Sent with every request; None for none."""
    command: Command | None = None
    """What starts it; None where it runs already."""
    name: str = "1"
    """Which of several it is."""
    key_file: str | None = None
    """File that :attr:`key` came from; read again for each request, so that it can be replaced."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Sent with every request, beside the key."""
    proxy: str | None = None
    """Address that requests go through; None for none."""

    def url(self, path: str) -> str:
        """Return the address of a path such as ``v1/completions`` or ``health``.

        >>> Server("http://a/v1").url("health"), Server("http://a/v2").url("v1/completions")
        ('http://a/health', 'http://a/v2/completions')
        """
        if path.startswith("v1/"):
            return f"{self.base_url}/{path[3:]}"
        return f"{self.base_url.removesuffix('/v1')}/{path}"


def running_servers(settings: ServerEngineSettings, key_file: str | None = None) -> tuple[Server, ...]:
    """Return the servers at the settings' addresses, that of ``base_url`` first.

    Args:
        settings: Which name them.
        key_file: Holds the key of those that no environment variable is named for.

    Raises:
        ConfigError: The settings name none, or a key is not in the environment or in its file.
    """
    from tunery.endpoint.keys import named_key

    if settings.base_url is None:
        raise ConfigError("the engine needs the address of its server", hint="engine.base_url=http://…/v1")

    def at(url: str, env: str | None, name: str) -> Server:
        file = None if env else key_file
        return Server(url, named_key(env, file, url) or None, name=name, key_file=file)

    return at(settings.base_url, settings.api_key_env, "1"), *(
        at(other.base_url, other.api_key_env or settings.api_key_env, other.name or str(number))
        for number, other in enumerate(settings.upstreams, 2)
    )
