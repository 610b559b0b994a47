"""Identity: an artifact's id is a hash of what made it; an event's id is random and sorts by time."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tunery.core.errors import ConfigError

_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]$|^[a-z0-9]$")
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")
_IN_ORDER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return JSON that is the same on every machine: sorted keys, no spaces, NaN refused.

    For values in which the order of keys means nothing; see :func:`in_order` for others.
    """
    return _CANONICAL.encode(value)


def in_order(value: Any) -> Any:
    """Return JSON for an id in which the order of keys counts, as that of a JSON Schema's properties does.

    A value whose keys are sorted is returned as it is, so that it has the id it always had; any other is
    told apart by its text.

    >>> in_order({"a": 1, "b": 2})
    {'a': 1, 'b': 2}
    >>> in_order({"b": 2, "a": 1})
    {'in_order': '{"b":2,"a":1}'}
    """
    text = _IN_ORDER.encode(value)
    return value if text == canonical_json(value) else {"in_order": text}


def sha256_text(text: str) -> str:
    """Return the SHA-256 of UTF-8 text as 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def artifact_id(
    kind: str, *, stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """Name an artifact after what made it, so that the same work is never done twice.

    Args:
        kind: Short prefix that says what the artifact is, such as ``ds`` or ``adapter``.
        stage: The stage's name.
        version: The stage's version [count]; raise it when its output changes for equal inputs.
        config: The settings that influence the result, JSON-ready; leave out those that do not.
        inputs: Role of each input to its id or checksum.

    Returns:
        ``kind-<16 hex digits>``.
    """
    made_of = {"stage": stage, "version": version, "config": config, "inputs": inputs}
    return f"{kind}-{sha256_text(canonical_json(made_of))[:16]}"


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, now: datetime) -> str:
    """Return a fresh id that sorts by time: ``prefix-`` + 9 time digits + 11 random ones, base 32."""
    number = (int(now.timestamp() * 1000) << 55) | (int.from_bytes(os.urandom(7), "big") >> 1)
    digits = ""
    for _ in range(20):
        number, digit = divmod(number, 32)
        digits = _ALPHABET[digit] + digits
    return f"{prefix}-{digits}"


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it is safe as a name and a folder (lower case, digits, ``. _ -``), else refuse.

    Raises:
        ConfigError: The name is empty, too long (over 64) or holds other characters.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise ConfigError(
            f"{what} {name!r:.80} is not usable: lower-case letters, digits, '.', '_' and '-', at most 64, "
            "beginning and ending with a letter or digit"
        )
    return name


def is_id(value: str) -> bool:
    """Tell whether a text can be an id of ours.

    >>> is_id("ds-1"), is_id("old copy")
    (True, False)
    """
    return _ID.fullmatch(value) is not None


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it can be an id of ours; anything that could be a path is refused.

    Raises:
        ConfigError: The id holds characters other than letters, digits, ``_`` and ``-``.
    """
    if not is_id(value):
        raise ConfigError(f"{what} {value!r:.80} is not a valid id")
    return value


def sampling_key(seed: int, *parts: str | int) -> str:
    """Return a key to sort by: uniform over things, fixed for one thing and seed.

    A lower limit draws a subset of what a higher one draws, because the order does not depend on it.
    """
    text = "\x1f".join(map(str, (seed, *parts)))
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()
