"""Text files as bounded lines of UTF-8: what every text format is read through."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tunery.core.errors import ConfigError

_GZIP_MAGIC = b"\x1f\x8b"
_FOREIGN = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a zip archive", b"PAR1": "Parquet"}


class Line(NamedTuple):
    """One line."""

    number: int
    """1-based."""
    text: str
    """With its line end."""


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading; gzip is unpacked on the way, recognised by its content."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP_MAGIC
        stream.seek(0)
        if not packed:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield unpacked  # type: ignore[misc]  # it reads like any other binary stream


def read_lines(path: Path, name: str, *, max_bytes: int) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file, never holding more than one of at most ``max_bytes``.

    Args:
        path: The file.
        name: How messages call it.
        max_bytes: Longest line accepted [bytes].

    Raises:
        ConfigError: Not UTF-8 (says at which byte, and what it may be instead), a line over ``max_bytes``,
            an archive cut short, or a file that cannot be read.
    """
    offset = 0
    with readable(name), open_bytes(path) as stream:
        for number, raw in enumerate(iter(lambda: stream.readline(max_bytes + 1), b""), start=1):
            if number == 1:
                refuse_foreign(raw, name)
            if len(raw) > max_bytes:
                raise too_large(name, f"line {number}", max_bytes)
            yield Line(number, _decode(raw, offset, number, name))
            offset += len(raw)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what can go wrong while reading a file into a :class:`ConfigError` that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ConfigError(f"{name}: the gzip data is damaged or cut short", hint=f"gzip -t {name}") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None


def too_large(name: str, where: str, max_bytes: int) -> ConfigError:
    """Return the error for a row or line over the limit."""
    return ConfigError(
        f"{name}: {where} is longer than {max_bytes:,} bytes; a quote or a line end is probably missing",
        hint="mend that row, or raise max_row_bytes of this source",
    )


def refuse_foreign(raw: bytes, name: str) -> None:
    """Raise :class:`ConfigError` when a file's first bytes are those of something other than UTF-8 text."""
    for magic, what in _FOREIGN.items():
        if raw.startswith(magic):
            hint = f"iconv -f UTF-16 -t UTF-8 {name} > utf8-{Path(name).name}" if what == "UTF-16" else None
            raise ConfigError(f"{name}: this is {what}, not UTF-8 text", hint=hint)
    if b"\x00" in raw:
        raise ConfigError(f"{name}: byte {raw.index(0)} is zero; this is not a text file")


def _decode(raw: bytes, offset: int, number: int, name: str) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        guess = guess_encoding(raw)
        around = raw[max(0, error.start - 12) : error.start + 12].decode(guess, "replace")
        # utf-8-sig counts from behind its three-byte mark.
        start = error.start + (3 if number == 1 and raw.startswith(b"\xef\xbb\xbf") else 0)
        raise ConfigError(
            f"{name}: not UTF-8 at byte {offset + start} (line {number}, value 0x{raw[start]:02x}); "
            f"it looks like {guess}: …{around.strip()}…",
            hint=f"iconv -f {guess} -t UTF-8 {name} > utf8-{Path(name).name}",
        ) from None


def guess_encoding(raw: bytes) -> str:
    """Return the likelier of the two encodings that Western files come in when they are not UTF-8.

    Windows-1252 leaves five byte values undefined; a line that uses one of them is Latin-1.
    """
    try:
        raw.decode("windows-1252")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "WINDOWS-1252"
