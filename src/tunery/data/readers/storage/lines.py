"""Text files as bounded lines of UTF-8: what every text format is read through."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import AnyStr, NamedTuple

from tunery.core.errors import ConfigError
from tunery.data.readers.storage.compression import PackedTooTight, Truncated, open_bytes
from tunery.data.readers.storage.urls import RawFile

_MAGIC = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xff\xff\xff": "Arrow",
    b"\x80\x04\x95": "a Python pickle",
    b"%PDF": "PDF",
    b"7z\xbc\xaf": "a 7z archive",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
_BLOCK_BYTES = 256 << 10
_KEPT_BYTES = 16_384


class Line(NamedTuple):
    """One line."""

    number: int
    """1-based."""
    text: str
    """With its line end."""


class Unreadable(str):
    """The beginning of a line that cannot be read, decoded as far as it can be."""

    __slots__ = ("fix",)

    fix: str
    """What is wrong with it and what to do."""


def read_lines(path: RawFile, name: str, *, max_bytes: int) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file, never holding more than one of at most ``max_bytes``.

    Args:
        path: The file.
        name: How messages call it.
        max_bytes: Longest line accepted [bytes].

    Raises:
        ConfigError: Not UTF-8 (says at which byte, and what it may be instead), a line over ``max_bytes``,
            a zero byte, an archive cut short, or a file that cannot be read.
    """
    number = 0
    for block in read_blocks(path, name, max_bytes=max_bytes):
        for text in block:
            number += 1
            yield Line(number, text)


def read_blocks(
    path: RawFile, name: str, *, max_bytes: int, keep_bad_lines: bool = False
) -> Iterator[list[str]]:
    """Yield the lines of a UTF-8 file, some hundred at a time: one by one costs three times more.

    Args:
        path: The file.
        name: How messages call it.
        max_bytes: Longest line accepted [bytes].
        keep_bad_lines: Yield an :class:`Unreadable` line in the place of one that is no UTF-8 or too long.

    Returns:
        Lists of consecutive lines, each with its line end.

    Raises:
        ConfigError: As :func:`read_lines`, after the lines before the one at fault.
    """
    seen = _Seen(name, max_bytes, keep_bad_lines=keep_bad_lines)
    with readable(name), open_bytes(path) as stream:
        carry, skipping = b"", False
        while chunk := stream.read(_BLOCK_BYTES):
            if skipping:
                gone, newline, chunk = chunk.partition(b"\n")
                seen.bytes += len(gone + newline)
                skipping = not newline
            whole, newline, rest = chunk.rpartition(b"\n")
            if newline:
                yield from _decoded(carry + whole + newline, seen)
                carry = rest
            else:
                carry += chunk
            if len(carry) > max_bytes:
                yield [seen.refused(carry, too_large(name, f"line {seen.lines + 1}", max_bytes))]
                carry, skipping = b"", True
        if carry:
            yield from _decoded(carry, seen)


class _Seen:
    """How much of a file has been handed out, and what becomes of a line that cannot be."""

    def __init__(self, name: str, max_bytes: int, *, keep_bad_lines: bool) -> None:
        self.name, self.max_bytes, self.keep_bad_lines = name, max_bytes, keep_bad_lines
        self.lines = 0
        self.bytes = 0

    def refused(self, raw: bytes, error: ConfigError) -> Unreadable:
        """Count a line that cannot be read and return what stands for it.

        Raises:
            ConfigError: The same, where such a line ends the file.
        """
        if not self.keep_bad_lines:
            raise error
        self.lines += 1
        self.bytes += len(raw)
        reason = error.message.removeprefix(f"{self.name}: ")
        line = Unreadable(raw[:_KEPT_BYTES].decode("utf-8", "replace"))
        line.fix = f"{reason} ({error.hint})" if error.hint else reason
        return line


def _decoded(block: bytes, seen: _Seen) -> Iterator[list[str]]:
    """Yield a block's lines at once where nothing is wrong with it, else those before the fault."""
    if not seen.bytes:
        refuse_binary(block[:_BLOCK_BYTES].partition(b"\n")[0], seen.name)
    start = len(_BOM) if not seen.bytes and block.startswith(_BOM) else 0
    if b"\x00" not in block and max(map(len, block[start:].split(b"\n"))) < seen.max_bytes:
        try:
            lines = _split(block[start:].decode("utf-8"), "\n")
        except UnicodeDecodeError:
            pass
        else:
            seen.lines += len(lines)
            seen.bytes += len(block)
            if lines:
                yield lines
            return
    for line in _split(block, b"\n"):
        try:
            text = _decode(line, seen)
        except ConfigError as error:
            yield [seen.refused(line, error)]
            continue
        seen.lines += 1
        seen.bytes += len(line)
        yield [text]


_BOM = b"\xef\xbb\xbf"


def _split(block: AnyStr, newline: AnyStr) -> list[AnyStr]:
    """Split behind line feeds only: a bare carriage return is no line end here."""
    lines = [line + newline for line in block.split(newline)]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what can go wrong while reading a file into a :class:`ConfigError` that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise ConfigError(f"{name}: the gzip data is damaged or cut short", hint=f"gzip -t {name}") from None
    except Truncated as error:
        raise ConfigError(f"{name}: {error}", hint=f"zstd -t {name}") from None
    except PackedTooTight as error:
        raise ConfigError(f"{name}: {error}", hint="unpack it yourself and look at what is in it") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}") from None


def too_large(name: str, where: str, max_bytes: int) -> ConfigError:
    """Return the error for a row or line over the limit."""
    return ConfigError(
        f"{name}: {where} is longer than {max_bytes:,} bytes; a quote or a line end is probably missing",
        hint="repair that row, or raise max_row_bytes of this source",
    )


def refuse_binary(raw: bytes, name: str) -> None:
    """Raise :class:`ConfigError` when a file's first bytes are those of something other than UTF-8 text."""
    for magic, what in _MAGIC.items():
        if raw.startswith(magic):
            hint = f"iconv -f UTF-16 -t UTF-8 {name} > utf8-{Path(name).name}" if what == "UTF-16" else None
            raise ConfigError(f"{name}: this is {what}, not UTF-8 text", hint=hint)
    if b"\x00" in raw:
        raise ConfigError(f"{name}: byte {raw.index(0)} is zero; this is not a text file")


def _decode(raw: bytes, seen: _Seen) -> str:
    name, number = seen.name, seen.lines + 1
    if len(raw) > seen.max_bytes:
        raise too_large(name, f"line {number}", seen.max_bytes)
    if b"\x00" in raw:
        zero = seen.bytes + raw.index(0)
        raise ConfigError(f"{name}: byte {zero} is zero (line {number}); this is not a text file")
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        guess = guess_encoding(raw)
        around = raw[max(0, error.start - 12) : error.start + 12].decode(guess, "replace")
        # utf-8-sig counts from behind its three-byte mark.
        start = error.start + (len(_BOM) if number == 1 and raw.startswith(_BOM) else 0)
        raise ConfigError(
            f"{name}: not UTF-8 at byte {seen.bytes + start} (line {number}, value 0x{raw[start]:02x}); "
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
