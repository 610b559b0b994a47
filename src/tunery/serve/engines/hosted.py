"""A model behind somebody's endpoint of chat completions: forwarded to, no weights and no tokenizer here.

The endpoint's own template writes prompts, so that what the model reads is its owner's word alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tunery.core.config import NonEmpty
from tunery.endpoint.config import NamedLimit, check_url
from tunery.serve.engines.upstream.settings import ServerEngineSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine


def _is_none(value: object) -> bool:
    return value is None


class HostedSettings(ServerEngineSettings, NamedLimit):
    """Where the endpoint is, and which of its models answers."""

    kind: Literal["hosted"] = "hosted"
    """This engine."""

    base_url: str
    """Address up to and including the version, such as ``https://api.example.com/v1``."""

    model: NonEmpty
    """The model's name there, and here: it takes the place of the server's ``base``."""

    context_window: int = Field(default=128_000, ge=1)
    """Tokens that a conversation and its answer may have together."""

    api_key_file: str | None = Field(default=None, exclude_if=_is_none)
    """File that holds the key and nothing else, in place of ``api_key_env``; nobody else may be allowed to
    read it. It is read for each request, so that a key can be replaced while the server runs."""

    organization: str | None = Field(default=None, exclude_if=_is_none)
    """Sent as ``OpenAI-Organization``; left out, the key's default."""

    project: str | None = Field(default=None, exclude_if=_is_none)
    """Sent as ``OpenAI-Project``; left out, the key's own."""

    proxy: str | None = Field(default=None, exclude_if=_is_none)
    """Proxy to go through, ``http://HOST:PORT``; those that the environment names are not used."""

    @field_validator("proxy")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        return url and check_url(url)

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_file and self.api_key_env:
            raise ValueError("api_key_env and api_key_file both name a key; leave one of them out")
        return self

    @property
    def own_base(self) -> str | None:
        """Name of the model, which is nothing that lies here."""
        return self.model

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on, as far as it can be known here."""
        return self.model_dump(mode="json", include={"kind", "base_url", "model"})


SETTINGS = HostedSettings


def open(base: Path, settings: HostedSettings) -> Engine:
    """Connect to nothing yet; raises as :class:`tunery.serve.engines.upstream.engine.UpstreamEngine`."""
    from tunery.endpoint.connection import account_headers
    from tunery.serve.engines.upstream.chat import ChatDialect
    from tunery.serve.engines.upstream.engine import UpstreamEngine
    from tunery.serve.engines.upstream.server import running_servers
    from tunery.serve.hosted_tokenizer import HostedTokenizer

    headers = account_headers(settings.organization, settings.project)
    return UpstreamEngine(
        HostedTokenizer(settings.context_window),
        settings,
        ChatDialect(settings.max_tokens_field),
        [
            server._replace(headers=headers, proxy=settings.proxy)
            for server in running_servers(settings, settings.api_key_file)
        ],
    )
