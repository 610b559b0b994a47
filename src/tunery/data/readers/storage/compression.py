"""Unpacking: gzip and Zstandard read as streams, with a bound on what may come out."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from tunery.store.urls import RawFile

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
MAX_UNPACKED_BYTES = 64 << 30
"""More than a million rows of 64 KiB each: beyond it a file is a bomb, or needs splitting anyway [bytes]."""
MAX_RATIO = 250
"""Unpacked to packed. Rows of text pack 3 to 30 fold, machine-made logs under 100 fold; a bomb of zeros packs
1,030 fold with gzip and over 10,000 fold with Zstandard."""
FREE_BYTES = 64 << 20
"""So much may come out before the ratio counts: a small file of equal rows is no danger [bytes]."""
_CHUNK_BYTES = 256 << 10


class PackedTooTight(OSError):  # noqa: N818 - an OSError, so that every reader already reports it
    """A packed file that unpacks to more than a file of rows would."""

    def __init__(self, unpacked: int, packed: int) -> None:
        super().__init__(
            f"it unpacks to over {unpacked:,} bytes from {packed:,}; no file of rows does, so it is not read "
            "further"
        )


class Truncated(OSError):  # noqa: N818 - as above
    """A packed file whose data is damaged or ends too early."""


class _Unpacked(io.RawIOBase):
    """Unpacked bytes, refused once they are too many for the packed ones that were read."""

    def __init__(self, read: Callable[[int], bytes], packed: IO[bytes]) -> None:
        self._read, self._packed = read, packed
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._read(min(len(buffer), _CHUNK_BYTES))
        buffer[: len(content)] = content
        self._count += len(content)
        packed = max(self._packed.tell(), 1)
        if self._count > MAX_UNPACKED_BYTES or (
            self._count > FREE_BYTES and self._count > MAX_RATIO * packed
        ):
            raise PackedTooTight(self._count, packed)
        return len(content)


def unpacked_name(name: str) -> str:
    """Return a file's name, in small letters, without the ending that says it is packed.

    >>> unpacked_name("rows.jsonl.zstd")
    'rows.jsonl'
    """
    for ending in (".gz", ".zst", ".zstd"):
        name = name.removesuffix(ending)
    return name


@contextmanager
def open_bytes(file: RawFile) -> Iterator[IO[bytes]]:
    """Open a file for reading; gzip and Zstandard are unpacked on the way, recognised by their content.

    Raises:
        OSError: While reading: the packed data is damaged, cut short, or unpacks to more than
            :data:`MAX_UNPACKED_BYTES` or :data:`MAX_RATIO` times its size.
    """
    with file.open("rb") as stream:
        head = stream.read(4)
        kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        stream.seek(0)
        if kind is None:
            yield stream
            return
        with _unpacker(kind, stream) as read:
            yield cast(IO[bytes], io.BufferedReader(_Unpacked(read, stream), _CHUNK_BYTES))


@contextmanager
def _unpacker(kind: str, packed: IO[bytes]) -> Iterator[Callable[[int], bytes]]:
    if kind == "gzip":
        with gzip.GzipFile(fileobj=packed) as unpacked:
            yield unpacked.read
        return
    import pyarrow as pa

    def read(size: int) -> bytes:
        try:
            return bytes(stream.read(size))
        except OSError as error:
            raise Truncated(f"the zstd data is damaged or cut short: {error}") from None

    with pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd") as stream:
        yield read


@contextmanager
def open_seekable(file: RawFile) -> Iterator[IO[bytes]]:
    """Open a file for reading at any place; a packed one is unpacked into a temporary file first.

    Parquet and Arrow files are read from their end, which a packed stream does not offer.

    Raises:
        OSError: As :func:`open_bytes`.
    """
    with open_bytes(file) as stream:
        if stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked, _CHUNK_BYTES)
            unpacked.seek(0)
            yield cast(IO[bytes], unpacked)
