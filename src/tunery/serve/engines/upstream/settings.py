"""Settings of engines that are servers elsewhere, one that runs or one that is started here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tunery.core.breaker import BreakerSettings
from tunery.core.config import Settings
from tunery.endpoint.config import check_url
from tunery.serve.engines import EngineSettings


class OtherUpstream(Settings):
    """A further server of the same weights."""

    base_url: str
    """Address up to and including the version."""

    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds its key; left out, that of ``engine.api_key_env``."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """What answers, records and metrics call it; by default its place, from 2. The first is called 1."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, url: str) -> str:
        return check_url(url)


def _by_address(value: Any) -> Any:
    return {"base_url": value} if isinstance(value, str) else value


class ServerEngineSettings(EngineSettings):
    """Where the server is, and how long it is waited for."""

    base_url: str | None = None
    """Address up to and including the version, such as ``http://127.0.0.1:8000/v1``."""

    upstreams: tuple[Annotated[OtherUpstream, BeforeValidator(_by_address)], ...] = Field(
        default=(), max_length=63
    )
    """Further servers of the same weights, each an address or an object: requests go to that with the fewest
    in flight, and to another where one fails before its first byte."""

    breaker: BreakerSettings = BreakerSettings()
    """When one of several servers is left alone; one that cannot be reached is at once."""

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

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if self.upstreams and (self.base_url is None or getattr(self, "command", ())):
            raise ValueError("upstreams go with the base_url of a server that runs, not with a command")
        others = [one.name or str(number) for number, one in enumerate(self.upstreams, 2)]
        for what, each in (
            ("addresses", [self.base_url, *(one.base_url for one in self.upstreams)]),
            ("names", ["1", *others]),
        ):
            if len(set(each)) < len(each):
                raise ValueError(f"two upstreams have the same of their {what}")
        return self

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
