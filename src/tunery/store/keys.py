"""API keys: shown once, stored as a hash, recognised in constant time."""

from __future__ import annotations

import hmac
import secrets
from typing import NamedTuple

from tunery.core.access import ApiKey
from tunery.core.clock import Clock
from tunery.core.errors import ConfigError
from tunery.core.ids import new_id, sha256_text
from tunery.store.database import Database
from tunery.store.records import Records, TableLayout

_LAYOUT = TableLayout("keys", ApiKey, "key", ("prefix", "revoked_at"), hint="tunery keys ls", private=True)
_PREFIX_CHARACTERS = 10


class NewKey(NamedTuple):
    """A key just made."""

    key: ApiKey
    secret: str
    """``tk-…``; what the client sends. Not stored: whoever loses it makes a new one."""


class Keys(Records[ApiKey]):
    """The keys that the server lets in."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, _LAYOUT)
        self._clock = clock

    def create(self, name: str) -> NewKey:
        """Make a key with 256 random bits.

        Raises:
            ConfigError: The name is empty, over 64 characters, or holds some that cannot be printed.
        """
        if not name.strip() or len(name) > 64 or not name.isprintable():
            raise ConfigError(f"key name {name!r:.80} is not usable: 1 to 64 printable characters")
        secret = "tk-" + secrets.token_urlsafe(32)
        now = self._clock.now()
        key = ApiKey(
            id=new_id("key", now),
            name=name.strip(),
            prefix=secret[:_PREFIX_CHARACTERS],
            # A plain hash is enough for a secret that nobody can guess, and costs nothing per request.
            sha256=sha256_text(secret),
            created_at=now,
        )
        return NewKey(self.add(key), secret)

    def verify(self, secret: str) -> ApiKey | None:
        """Return the key of a secret, None where it is unknown, revoked or expired."""
        given, now = sha256_text(secret), self._clock.now()
        found = None
        # Looked up by what is shown in lists anyway; the hash decides, compared in constant time.
        for key in self.list(prefix=secret[:_PREFIX_CHARACTERS].replace("\0", " ")):
            if key.works_at(now) and hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def revoke(self, id: str) -> ApiKey:
        """Refuse a key from now on; one revoked before keeps its time.

        Raises:
            NotFoundError: There is none of that id.
        """
        now = self._clock.now()
        return self.change(id, lambda key: key if key.revoked_at else key.with_(revoked_at=now))
