"""A model behind somebody's endpoint of chat completions: forwarded to, no weights and no tokenizer here.

The endpoint's own template writes prompts, so that what the model reads is its owner's word alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tunery.core.config import NonEmpty
from tunery.endpoint.config import Account, NamedLimit
from tunery.serve.engines.upstream.settings import ServerEngineSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine


class HostedSettings(ServerEngineSettings, NamedLimit, Account):
    """Where the endpoint is, and which of its models answers."""

    kind: Literal["hosted"] = "hosted"
    """This engine."""

    base_url: str
    """Address up to and including the version, such as ``https://api.example.com/v1``."""

    model: NonEmpty
    """The model's name there, and here: it takes the place of the server's ``base``."""

    context_window: int = Field(default=128_000, ge=1)
    """Tokens that a conversation and its answer may have together."""

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
    from tunery.serve.engines.upstream.chat import ChatDialect
    from tunery.serve.engines.upstream.engine import UpstreamEngine
    from tunery.serve.engines.upstream.server import running_servers
    from tunery.serve.hosted_tokenizer import HostedTokenizer

    return UpstreamEngine(
        HostedTokenizer(settings.context_window),
        settings,
        ChatDialect(settings.max_tokens_field),
        [
            server._replace(headers=settings.account_headers, proxy=settings.proxy)
            for server in running_servers(settings, settings.api_key_file)
        ],
    )
