"""Where a server of completions is, and what starts it."""

from __future__ import annotations

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

    def url(self, path: str) -> str:
        """Return the address of a path such as ``v1/completions`` or ``health``.

        >>> Server("http://a/v1").url("health"), Server("http://a/v2").url("v1/completions")
        ('http://a/health', 'http://a/v2/completions')
        """
        if path.startswith("v1/"):
            return f"{self.base_url}/{path[3:]}"
        return f"{self.base_url.removesuffix('/v1')}/{path}"


def running_servers(settings: ServerEngineSettings) -> tuple[Server, ...]:
    """Return the servers at the settings' addresses, that of ``base_url`` first.

    Raises:
        ConfigError: The settings name none, or a key is not in the environment.
    """
    from tunery.endpoint.keys import key_from

    if settings.base_url is None:
        raise ConfigError("the engine needs the address of its server", hint="engine.base_url=http://…/v1")
    first = Server(settings.base_url, key_from(settings.api_key_env, settings.base_url) or None)
    return first, *(
        Server(
            other.base_url,
            key_from(other.api_key_env or settings.api_key_env, other.base_url) or None,
            name=other.name or str(number),
        )
        for number, other in enumerate(settings.upstreams, 2)
    )
