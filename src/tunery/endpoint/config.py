"""Settings of an endpoint: where it is, how it is to answer, what it costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from tunery.core.config import NonEmpty, Settings
from tunery.core.prices import TokenPrices

_AZURE = tuple(
    f"{kind}.azure.{end}"
    for kind in (".openai", ".cognitiveservices", ".services.ai")
    for end in ("com", "us", "cn")
)
"""How the hosts end under which Azure serves a resource's models."""
_AZURE_PATH = re.compile(r"/?|/openai/?|/openai/(deployments/[^/]+|v1)(/.*)?")


def check_url(url: str) -> str:
    """Return an endpoint's address without what stands behind its version.

    What Azure shows of a resource, with the deployment and the date of an interface or without, becomes the
    address that speaks as OpenAI's does; a request names its deployment as its model there.

    Raises:
        ValueError: It is none, or holds what belongs elsewhere.

    >>> check_url("https://acme.openai.azure.com/openai/deployments/a/chat/completions?api-version=2024-10-21")
    'https://acme.openai.azure.com/openai/v1'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    azure = parts.hostname.endswith(_AZURE) and _AZURE_PATH.fullmatch(parts.path)
    extra = "" if azure and set(parse_qs(parts.query)) <= {"api-version"} else parts.query
    if parts.username or parts.password or extra or parts.fragment:
        raise ValueError("must hold neither user, password, query nor fragment; use api_key_env for keys")
    if azure:
        return f"{parts.scheme}://{parts.netloc}/openai/v1"
    return url.rstrip("/").removesuffix("/chat/completions")


def is_open_to_listeners(url: str) -> bool:
    """Return whether what is sent to an address leaves this machine unencrypted.

    >>> is_open_to_listeners("http://gateway/v1"), is_open_to_listeners("http://localhost:8000/v1")
    (True, False)
    """
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


MaxTokensField = Literal["max_tokens", "max_completion_tokens"]


def _is_none(value: object) -> bool:
    return value is None


class NamedLimit(Settings):
    """An endpoint's word for the limit of an answer; one definition for all that speak to one."""

    max_tokens_field: MaxTokensField = "max_tokens"
    """What the endpoint calls the limit of an answer; models that think before they answer want the second
    name, some older ones know the first alone."""


class Account(Settings):
    """For whom an endpoint is asked, and by which way; one definition for all that speak to one."""

    api_key_file: str | None = Field(default=None, exclude_if=_is_none)
    """File that holds the key and nothing else, in place of ``api_key_env``; nobody else may be allowed to
    read it. A server reads it for each request, so that a key can be replaced while it runs."""
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
        if self.api_key_file and getattr(self, "api_key_env", None):
            raise ValueError("api_key_env and api_key_file both name a key; leave one of them out")
        return self

    @property
    def account_headers(self) -> dict[str, str]:
        """What names the account in a request; nothing where nothing does.

        >>> Account(organization="org-1").account_headers
        {'OpenAI-Organization': 'org-1'}
        """
        named = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        return {name: value for name, value in named.items() if value}


class EndpointConfig(TokenPrices, NamedLimit, Account):
    """A model behind an endpoint that speaks the chat-completions protocol."""

    base_url: str
    """Address up to and including the version, such as ``https://api.example.com/v1``."""
    model: NonEmpty
    """The model's name, as the endpoint knows it."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key, never the key itself; left out, none is sent."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Higher gives more varied answers and more wrong ones."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling; left out, the endpoint decides."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest answer to one request; the budget reserves it for every request in flight [tokens]."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Requests in flight at once."""
    requests_per_minute: float | None = Field(default=None, gt=0, exclude_if=lambda rate: rate is None)
    """Requests a minute at most, spread evenly; left out, as many as :attr:`concurrency` allows."""
    tokens_per_minute: float | None = Field(default=None, gt=0, exclude_if=lambda rate: rate is None)
    """Tokens of prompts and answers a minute at most; a request counts at its ceiling until it ends."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Longest wait for one answer [s]."""
    attempts: int = Field(default=6, ge=1)
    """Tries of one request that meets 408, 429, a 5xx, a timeout or a broken connection."""
    backoff_s: float = Field(default=1.0, gt=0)
    """Upper end of the random wait before the second try; it doubles with each further one [s]."""
    max_wait_s: float = Field(default=120.0, gt=0)
    """Longest wait before a try. An endpoint that asks for a longer one by Retry-After ends the call [s]."""

    extra: Mapping[str, Any] = Field(default_factory=dict, exclude_if=lambda extra: not extra)
    """Further fields of every request, such as ``response_format`` or ``chat_template_kwargs``."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, url: str) -> str:
        return check_url(url)

    @property
    def host(self) -> str:
        """The endpoint's host, with its port where the address has one."""
        return urlsplit(self.base_url).netloc

    @property
    def is_open_to_listeners(self) -> bool:
        """Whether requests leave this machine unencrypted."""
        return is_open_to_listeners(self.base_url)


def check_prices(budget_usd: float | None, *payers: EndpointConfig) -> None:
    """Refuse a budget in money where someone's prices are not known.

    Raises:
        ValueError: Says which settings are missing.
    """
    if budget_usd is not None and any(p.price_prompt is None or p.price_completion is None for p in payers):
        raise ValueError("a budget in money needs price_prompt and price_completion of every endpoint")
