"""Keys of other people's endpoints: read where they are needed, kept nowhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tunery.core.errors import ConfigError


def named_key(env: str | None, file: str | None, host: str) -> str:
    """Return the key in a file where one is named, else in an environment variable; empty where neither is.

    Raises:
        ConfigError: As :func:`key_from_file` and :func:`key_from`.
    """
    return key_from_file(file, host) if file else key_from(env, host)


def key_from(env: str | None, host: str) -> str:
    """Return the key in an environment variable, empty where none is named.

    Raises:
        ConfigError: The environment does not hold it, or what it holds cannot be a key.
    """
    if env is None:
        return ""
    key = os.environ.get(env, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {env} is not set, so there is no key for {host}",
            hint=f"export {env}=…",
            param="api_key_env",
        )
    return _checked(key, env, "api_key_env")


def key_from_file(path: str, host: str) -> str:
    """Return the key that a file holds and nothing else; as ssh does, one that others may read is refused.

    Raises:
        ConfigError: There is no such file, others may read it, or what it holds cannot be a key.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            if (mode := stat.S_IMODE(os.fstat(stream.fileno()).st_mode)) & 0o077:
                raise ConfigError(
                    f"{file} holds the key for {host} and may be read by others (mode {mode:04o})",
                    hint=f"chmod 600 {file}",
                    param="api_key_file",
                )
            key = stream.read(64 * 1024).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the key for {host} cannot be read: {error}", param="api_key_file") from None
    if not key:
        raise ConfigError(f"{file} is empty, so there is no key for {host}", param="api_key_file")
    return _checked(key, str(file), "api_key_file")


def _checked(key: str, place: str, param: str) -> str:
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"the key in {place} holds characters that no HTTP header can carry", param=param)
    return key
