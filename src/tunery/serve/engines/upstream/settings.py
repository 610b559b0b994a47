"""Settings of engines that are servers elsewhere, one that runs or one that is started here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from tunery.endpoint.config import check_url
from tunery.serve.engines import EngineSettings


class ServerEngineSettings(EngineSettings):
    """Where the server is, and how long it is waited for."""

    base_url: str | None = None
    """Address up to and including the version, such as ``http://127.0.0.1:8000/v1``."""

    model: str | None = None
    """Name of the base there; by default the first that it lists."""

    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key; left out, none is sent."""

    parallel: int = Field(default=64, ge=1, le=1024)
    """Requests in flight at once; more wait here."""

    connect_s: float = Field(default=5.0, gt=0)
    """Longest wait for a connection [s]."""

    first_token_s: float = Field(default=60.0, gt=0)
    """Longest wait for the next piece of an answer [s]."""

    attempts: int = Field(default=3, ge=1)
    """Tries of a request of which no byte has come back."""

    context_window: int | None = Field(default=None, ge=1)
    """Tokens of a prompt and its completion; by default what the upstream says, else the base's own."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, url: str | None) -> str | None:
        return url if url is None else check_url(url)

    @property
    def slots(self) -> int:
        """Requests in flight at once [count]."""
        return self.parallel

    @property
    def window(self) -> int | None:
        """Longest prompt with its answer [tokens]."""
        return self.context_window


class StartedEngineSettings(ServerEngineSettings):
    """A server that is started here, watched, and ended with ours; or one that runs, by ``base_url``."""

    log: Path | None = None
    """File that takes what the server writes, secrets left out; ``tunery serve`` keeps one in its home."""

    start_s: float = Field(default=600.0, gt=0)
    """Longest time from its start until it answers [s]."""

    def logging_to(self, folder: Path) -> Self:
        """Return the settings with a log in a folder, unless they name one."""
        return self if self.log else self.model_copy(update={"log": folder / f"engine-{self.kind}.log"})


class UpstreamSettings(ServerEngineSettings):
    """Where the upstream is and what it understands."""

    kind: Literal["upstream"] = "upstream"
    """This engine."""

    base_url: str
    """Address up to and including the version, such as ``http://127.0.0.1:8000/v1``."""

    dialect: Literal["vllm", "openai"] = "vllm"
    """``vllm``: adapters are loaded at run time, tokens come with their ids, prompts are scored by
    ``prompt_logprobs``. ``openai``: completions of the base alone, scored by ``echo``."""

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on, as far as it can be known here."""
        return self.model_dump(mode="json", include={"kind", "base_url", "model"})
