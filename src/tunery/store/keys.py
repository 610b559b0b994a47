"""API keys: shown once, stored as a hash, recognised in constant time."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from typing import NamedTuple

from tunery.core.access import ApiKey, Role
from tunery.core.clock import Clock
from tunery.core.errors import ConfigError
from tunery.core.ids import new_id, sha256_text
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout, utc_text

_LAYOUT = TableLayout(
    "keys",
    ApiKey,
    "key",
    ("prefix", "revoked_at", "project"),
    hint="tunery keys ls",
    private=True,
    owned="project = :project",
)
_PREFIX_CHARACTERS = 10


class NewKey(NamedTuple):
    """A key just made."""

    key: ApiKey
    secret: str
    """``tk-…``; what the client sends. Not stored: whoever loses it makes a new one."""


class Keys(Records[ApiKey]):
    """The keys that the server lets in."""

    def __init__(self, database: Database, clock: Clock, project: str | None = None) -> None:
        super().__init__(database, _LAYOUT, project)
        self._clock = clock

    def create(
        self,
        name: str,
        role: Role = "admin",
        *,
        expires_at: datetime | None = None,
        weight: float = 1.0,
        priority: int = 0,
    ) -> NewKey:
        """Make a key of this project with 256 random bits.

        Args:
            name: Whose it is; shown in lists and records.
            role: What it may do.
            expires_at: When it stops working by itself.
            weight: As :attr:`~tunery.core.access.ApiKey.weight`.
            priority: As :attr:`~tunery.core.access.ApiKey.priority`.

        Raises:
            ConfigError: The name is empty, over 64 characters, or holds some that cannot be printed; or the
                key would never work.
        """
        if not name.strip() or len(name) > 64 or not name.isprintable():
            raise ConfigError(f"key name {name!r:.80} is not usable: 1 to 64 printable characters")
        secret = "tk-" + secrets.token_urlsafe(32)
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise ConfigError(f"a key that expires at {utc_text(expires_at)} never works", param="expires_at")
        key = ApiKey(
            id=new_id("key", now),
            name=name.strip(),
            prefix=secret[:_PREFIX_CHARACTERS],
            # A plain hash is enough for a secret that nobody can guess, and costs nothing per request.
            sha256=sha256_text(secret),
            created_at=now,
            role=role,
            expires_at=expires_at,
            weight=weight,
            priority=priority,
        )
        return NewKey(self.add(key), secret)

    def verify(self, secret: str) -> ApiKey | None:
        """Return the key of a secret, None where it is unknown, revoked or expired."""
        key = self.recognise(secret)
        return key if key is not None and key.works_at(self._clock.now()) else None

    def recognise(self, secret: str) -> ApiKey | None:
        """Return the key of a secret, whether it still works or not; None where it is unknown."""
        given = sha256_text(secret)
        found = None
        # Looked up by what is shown in lists anyway; the hash decides, compared in constant time.
        for key in self.list(prefix=secret[:_PREFIX_CHARACTERS].replace("\0", " ")):
            if hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def revoke(self, id: str) -> ApiKey:
        """Refuse a key from now on; one revoked before keeps its time.

        Raises:
            NotFoundError: There is none of that id.
        """
        now = self._clock.now()
        return self.change(id, lambda key: key if key.revoked_at else key.with_(revoked_at=now))
