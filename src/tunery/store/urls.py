"""Where raw files lie, on this machine or behind a URL such as ``s3://bucket/rows.jsonl``."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from tunery.core.errors import ConfigError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_PACKAGES: dict[str, tuple[str, ...]] = {
    "s3fs": ("s3", "s3a"),
    "gcsfs": ("gs", "gcs"),
    "adlfs": ("abfs", "abfss", "az"),
    "ocifs": ("oci",),
    "ossfs": ("oss",),
    "huggingface_hub": ("hf",),
    "aiohttp": ("http", "https"),
    "pyarrow": ("hdfs",),
    "requests": ("webhdfs",),
    "paramiko": ("sftp", "ssh"),
    "smbprotocol": ("smb",),
    "fsspec": ("ftp", "file", "local", "memory"),
}
_SCHEMES = {scheme: package for package, schemes in _PACKAGES.items() for scheme in schemes}
"""Scheme to the package that reads it. fsspec knows more, but some of those (chains with ``::``, archives,
``reference``) reach files other than the one they name, or unpack without a bound."""
_BUFFER_BYTES = 1 << 20
_SECRET = re.compile(r"//[^/@]*@")
_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file behind a URL."""

    filesystem: AbstractFileSystem
    path: str
    """As the file system calls it, without its scheme."""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name

    def open(self, mode: Literal["rb"]) -> io.BufferedReader:
        """Open for reading; whatever the store raises comes out as :class:`OSError`."""
        with _failing_as_os_error():
            stream = self.filesystem.open(self.path, mode)
        return io.BufferedReader(_RemoteStream(stream), _BUFFER_BYTES)


RawFile = Path | RemoteFile


class InputFile(NamedTuple):
    """A file as its reader is given it."""

    file: RawFile
    name: str
    """What messages call it."""
    max_row_bytes: int
    """Longest row accepted [bytes]."""


class _RemoteStream(io.RawIOBase):
    """A remote stream whose every failure is an OSError, so that readers need to know one kind only."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def readinto(self, buffer: Any) -> int:
        with _failing_as_os_error():
            got = self._stream.read(len(buffer))
        buffer[: len(got)] = got
        return len(got)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _failing_as_os_error():
            return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextmanager
def _failing_as_os_error() -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each store has errors of its own, and none of them is ours
        raise OSError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from None


def whole_path(path: str, base_dir: Path) -> str:
    """Return a source's path as it reads from anywhere: a URL as it is, else from the root."""
    return path if is_url(path) else str(base_dir / path)


def is_url(path: str) -> bool:
    """Tell whether a source's path is a URL; a Windows drive letter is none.

    >>> is_url("s3://bucket/rows.csv"), is_url("rows.csv"), is_url("C:/rows.csv")
    (True, False, False)
    """
    return _URL.match(path) is not None


def redacted_url(url: str) -> str:
    """Return a URL without the user name and password it may carry.

    >>> redacted_url("sftp://me:secret@host/rows.csv")
    'sftp://host/rows.csv'
    """
    return _SECRET.sub("//", url, count=1)


def open_filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL and the path in it.

    Credentials are found as each store's own tools find them (environment, profile, instance role).

    Raises:
        ConfigError: An unknown scheme, a chained URL, a password in it, a missing package, or a store that
            cannot be reached.
    """
    from fsspec.core import url_to_fs

    if _PASSWORD.search(url):
        raise ConfigError(
            f"{redacted_url(url)}: a password has no place in a recipe, which every dataset version keeps",
            hint="give it as the store's own tools take it: an environment variable, a profile or a key file",
        )
    found = _URL.match(url)
    scheme = found.group(1).lower() if found else ""
    if scheme not in _SCHEMES or "::" in url:
        raise ConfigError(
            f"{redacted_url(url)}: {'chained URLs are' if '::' in url else f'{scheme}:// is'} not read "
            f"(read are: {', '.join(sorted(_SCHEMES))})"
        )
    try:
        filesystem, path = url_to_fs(url)
    except ImportError:
        package = _SCHEMES[scheme]
        raise ConfigError(
            f"{redacted_url(url)}: reading {scheme}:// needs the package {package}",
            hint=f"pip install {package}",
        ) from None
    except Exception as error:  # as above: the store's own errors, from no credentials to no network
        raise ConfigError(f"{redacted_url(url)}: {type(error).__name__}: {error}") from None
    return cast("AbstractFileSystem", filesystem), str(path)


def sha256_raw(file: RawFile) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits, wherever it lies."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
