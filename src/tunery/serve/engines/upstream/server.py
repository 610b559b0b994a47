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

    def url(self, path: str) -> str:
        """Return the address of a path such as ``v1/completions`` or ``health``.

        >>> Server("http://a/v1").url("health"), Server("http://a/v2").url("v1/completions")
        ('http://a/health', 'http://a/v2/completions')
        """
        if path.startswith("v1/"):
            return f"{self.base_url}/{path[3:]}"
        return f"{self.base_url.removesuffix('/v1')}/{path}"


def running_server(settings: ServerEngineSettings) -> Server:
    """Return the server at the settings' address.

    Raises:
        ConfigError: The settings name none, or the key is not in the environment.
    """
    from tunery.endpoint.keys import key_from

    if settings.base_url is None:
        raise ConfigError("the engine needs the address of its server", hint="engine.base_url=http://…/v1")
    return Server(settings.base_url, key_from(settings.api_key_env, settings.base_url) or None)
