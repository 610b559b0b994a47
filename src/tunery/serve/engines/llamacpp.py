"""llama.cpp: the base as a GGUF file, its adapters beside it, in a server that is started and watched here.

The package ``xllamacpp`` brings the server. It runs in a process of its own, because what ends llama.cpp ends
everything in its process.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from tunery.serve.engines.upstream.settings import StartedEngineSettings

if TYPE_CHECKING:
    from tunery.core.engine import Engine


class LlamaCppSettings(StartedEngineSettings):
    """In which number format llama.cpp computes, and with how much of the machine."""

    kind: Literal["llamacpp"] = "llamacpp"
    """This engine."""

    quantise: Literal["f32", "f16", "q8_0", "q4_k_m"] = "f16"
    """Number format of the base's matrices. Below ``f16`` answers differ: have the gate judge them, by this
    engine in the recipe's ``evaluate.engine``."""

    gguf: Path | None = None
    """File to serve in place of one written from the base."""

    cache: Path | None = None
    """Folder that keeps written files; by default ``tunery/gguf`` in the user's cache."""

    max_batch: int = Field(default=8, ge=1, le=256)
    """Answers computed at once [count]; each has memory for a whole window."""

    context_window: int | None = Field(default=4096, ge=1)
    """Tokens of a prompt and its completion; at most what the base was made for."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads; when empty, one a core."""

    cache_mib: int = Field(default=256, ge=0)
    """Memory for prompts that were answered before [MiB]."""

    python: Path | None = None
    """Interpreter that has the package ``xllamacpp``; by default this one."""

    command: tuple[str, ...] = ()
    """Another build of llama.cpp's server in place of the package: program and arguments, no shell.
    ``{model}``, ``{host}`` and ``{port}`` are filled in, and an argument ``{adapters}`` becomes those that
    load them."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.command and self.python is not None:
            raise ValueError("llamacpp takes a command or a python that has xllamacpp, not both")
        return self

    @property
    def slots(self) -> int:
        """Answers computed at once [count]."""
        return self.max_batch

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on."""
        return self.model_dump(mode="json", include={"kind", "quantise", "gguf", "base_url", "command"})


SETTINGS = LlamaCppSettings


def open(base: Path, settings: LlamaCppSettings) -> Engine:
    """Write the base as GGUF where need be and start the server, or connect to one that runs.

    Raises:
        ConfigError: The base has no form in GGUF.
        ResourceError: The server cannot be started or reached.
    """
    from tunery.serve.engines.upstream.engine import UpstreamEngine
    from tunery.serve.engines.upstream.llamacpp import LlamaCppDialect
    from tunery.serve.engines.upstream.server import running_servers
    from tunery.serve.engines.upstream.swapping import SwappingEngine

    if settings.base_url is not None and not settings.command:
        return UpstreamEngine(base, settings, LlamaCppDialect(), running_servers(settings))
    return SwappingEngine(base, settings)
