"""Settings of webhooks."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tunery.core.config import Settings
from tunery.core.errors import ConfigError
from tunery.core.webhook import Event, EventType

_SHORTEST = 16
"""Secrets shorter than this can be guessed [bytes]."""


class WebhookSettings(Settings):
    """One endpoint that events are sent to."""

    url: str
    """Where events are posted to, as in ``https://example.com/hooks``; only the operator names addresses."""
    name: str = Field(default="default", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    """What it is called in lists; no two endpoints share one."""
    secret_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable that holds the secret which signs events: ``whsec_`` and base64, or plain text."""
    secret_file: str | None = None
    """File that holds it, in place of a variable."""
    events: tuple[EventType, ...] = ()
    """Events that are sent; all where none is named."""
    projects: tuple[str, ...] = ()
    """Projects whose events are sent; those of all where none is named."""
    timeout_s: float = Field(default=10.0, gt=0, le=60)
    """Time that the endpoint has to answer [s]."""
    attempts: int = Field(default=9, ge=1, le=20)
    """Times an event is sent until it is given up [count]; nine of them take about a day and a half."""
    max_pending: int = Field(default=10_000, ge=1)
    """Events that may wait for the endpoint [count]; the oldest above it are given up."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must begin with https:// or http:// and name a host")
        if parts.username or parts.password or parts.fragment:
            raise ValueError("must hold neither user, password nor fragment")
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("name where the secret is: secret_env or secret_file, one of the two")
        return self

    def wants(self, event: Event) -> bool:
        """Return whether an event is sent to it."""
        wanted = not self.events or event.type in self.events
        theirs = not self.projects or event.project in self.projects
        return event.type == "webhook.test" or (wanted and theirs)

    def secret(self) -> bytes:
        """Return the bytes that sign its events.

        Raises:
            ConfigError: They are not there or too few; the message holds none of them.
        """
        text, place = self._written()
        if not text:
            raise ConfigError(f"webhook {self.name}: there is no secret in {place}", param="webhooks")
        secret = text.encode()
        if text.startswith("whsec_"):
            try:
                secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
            except binascii.Error:
                raise ConfigError(
                    f"webhook {self.name}: what follows whsec_ in {place} is no base64", param="webhooks"
                ) from None
        if len(secret) < _SHORTEST:
            raise ConfigError(
                f"webhook {self.name}: the secret in {place} is shorter than {_SHORTEST} bytes",
                hint='python -c "import base64, os; '
                "print('whsec_' + base64.b64encode(os.urandom(32)).decode())\"",
                param="webhooks",
            )
        return secret

    def _written(self) -> tuple[str, str]:
        if self.secret_env is not None:
            return os.environ.get(self.secret_env, "").strip(), f"the variable {self.secret_env}"
        path = Path(self.secret_file or "").expanduser()
        try:
            return path.read_text(encoding="utf-8").strip(), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"webhook {self.name}: {path} cannot be read: {error}", param="webhooks"
            ) from None
