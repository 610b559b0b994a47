"""The mapping from values to what replaced them: written only where asked for, and only encrypted.

The key is a Fernet key in the environment variable ``TUNERY_PII_KEY``. Without it the file tells nothing,
with it all that masking took out. Key and file belong in different places.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tunery.core.errors import ConfigError, NotFoundError
from tunery.text.pii.types import PiiType

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY = "TUNERY_PII_KEY"


class Replaced(NamedTuple):
    """One value and what stands in its place."""

    type: PiiType
    original: str
    replacement: str


class Mapping:
    """A file of encrypted lines; several processes may add to it at once."""

    def __init__(self, path: Path) -> None:
        """Take the file's path and the key from the environment.

        Raises:
            ConfigError: The library or the key is missing, or the key is none.
        """
        self._path = path
        self._fernet = _fernet()

    def add(self, replaced: Iterable[Replaced]) -> None:
        """Add what was replaced, as one line; only the owner may read a file written here."""
        content = json.dumps(sorted(replaced), ensure_ascii=True)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(self._fernet.encrypt(content.encode()) + b"\n")

    def read(self) -> list[Replaced]:
        """Return what was ever added, each once, sorted.

        Raises:
            NotFoundError: There is no such file.
            ConfigError: The key is not the one it was written with, or the file was changed.
        """
        from cryptography.fernet import InvalidToken

        if not self._path.is_file():
            raise NotFoundError(f"{self._path} does not exist", hint="set data.clean.pii_mapping and build")
        found: set[Replaced] = set()
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                content = self._fernet.decrypt(line)
            except InvalidToken:
                raise ConfigError(
                    f"line {number} of {self._path} does not open with this {KEY}: another key wrote it, "
                    "or it was changed",
                    hint=f"set {KEY} to the key of the build that wrote it",
                ) from None
            found.update(Replaced(*row) for row in json.loads(content))
        return sorted(found)


def _fernet() -> Fernet:
    try:
        from cryptography.fernet import Fernet
    except ImportError:
        raise ConfigError(
            "the mapping of personal data is only kept encrypted, and cryptography is not installed",
            hint="pip install 'tunery[pii]'",
        ) from None
    key = os.environ.get(KEY, "")
    try:
        return Fernet(key)
    except ValueError:
        what = "is no Fernet key" if key else "is not set"
        raise ConfigError(
            f"the mapping of personal data is only kept encrypted, and {KEY} {what}",
            hint='python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"',
        ) from None
