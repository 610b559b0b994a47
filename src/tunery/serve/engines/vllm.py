"""vLLM, started and watched here or running elsewhere: adapters of the registry at run time.

It is driven over HTTP, so it lives in an environment of its own; nothing of it is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from tunery.serve.engines.upstream.settings import StartedEngineSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine

_DEFAULT_RANK = 16
"""``--max-lora-rank`` of a vLLM that is started without it."""
_RANK = "--max-lora-rank"
_ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


class VllmSettings(StartedEngineSettings):
    """The command that starts vLLM, or where one runs."""

    kind: Literal["vllm"] = "vllm"
    """This engine."""

    command: tuple[str, ...] = ()
    """Program and arguments, no shell; ``{base}``, ``{host}`` and ``{port}`` are filled in. Such as ``[vllm,
    serve, "{base}", --host, "{host}", --port, "{port}", --enable-lora, --max-lora-rank, "64"]``."""

    max_lora_rank: int | None = Field(default=None, ge=1)
    """Highest rank that the server takes; by default what the command says. An adapter above it is refused
    before the server is asked."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.command and self.base_url is None:
            raise ValueError("vllm needs the command that starts it, or the base_url of one that runs")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on, as far as it can be known here."""
        return self.model_dump(mode="json", include={"kind", "base_url", "model", "command"})

    @property
    def rank_limit(self) -> int | None:
        """Highest rank that the server takes; None where it is not known here."""
        if self.max_lora_rank is not None or not self.command:
            return self.max_lora_rank
        said = dict(zip(self.command, self.command[1:], strict=False)).get(_RANK)
        joined = next((word.partition("=")[2] for word in self.command if word.startswith(f"{_RANK}=")), None)
        rank = said or joined or str(_DEFAULT_RANK)
        return int(rank) if rank.isdecimal() else None


SETTINGS = VllmSettings


def open(base: Path, settings: VllmSettings) -> Engine:
    """Start the server or connect; raises as :class:`tunery.serve.engines.upstream.engine.UpstreamEngine`."""
    from tunery.serve.engines.upstream.engine import UpstreamEngine
    from tunery.serve.engines.upstream.server import Server, running_servers
    from tunery.serve.engines.upstream.started import started_server
    from tunery.serve.engines.upstream.vllm import VllmDialect

    if settings.command:
        words = {"base": str(base)}
        servers: tuple[Server, ...] = (
            started_server(settings, settings.command, words=words, environment=_ENVIRONMENT),
        )
    else:
        servers = running_servers(settings)
    return UpstreamEngine(base, settings, VllmDialect(settings.rank_limit), servers)
