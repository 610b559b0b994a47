"""Text files as bounded lines of UTF-8: what every text format is read through."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import AnyStr

from tunery.core.errors import ConfigError
from tunery.data.readers.storage.compression import PackedTooTight, Truncated, open_bytes
from tunery.store.urls import InputFile

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


class Unreadable(str):
    """The beginning of a line that cannot be read, decoded as far as it can be."""

    __slots__ = ("fix",)

    fix: str
    """What is wrong with it and what to do."""


def read_lines(file: InputFile, *, keep_bad_lines: bool = False) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, each with its end, never holding one of more than ``max_row_bytes``.

    Args:
        file: Which, and how long a line may be.
        keep_bad_lines: Yield an :class:`Unreadable` line in the place of one that is no UTF-8 or too long.

    Raises:
        ConfigError: After the lines before the one at fault: not UTF-8 (says at which byte, and what it may
            be instead), a line that is too long, a zero byte, an archive cut short, or a file that cannot be
            read.
    """
    return chain.from_iterable(_blocks(file, _Seen(file, keep_bad_lines)))


@dataclass(slots=True)
class _Seen:
    """How much of a file has been handed out, and what becomes of a line that cannot be."""

    file: InputFile
    keep_bad_lines: bool
    lines: int = 0
    bytes: int = 0


def _blocks(file: InputFile, seen: _Seen) -> Iterator[list[str]]:
    """Yield consecutive lines some hundred at a time: one by one costs three times more."""
    with readable(file.name), open_bytes(file.file) as stream:
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
            if len(carry) > file.max_row_bytes:
                yield from _decoded(carry, seen)
                carry, skipping = b"", True
        if carry:
            yield from _decoded(carry, seen)


def _decoded(block: bytes, seen: _Seen) -> Iterator[list[str]]:
    """Yield a block's lines at once where nothing is wrong with it, else those before the fault."""
    if not seen.bytes:
        refuse_binary(block[:_BLOCK_BYTES].partition(b"\n")[0], seen.file.name)
        if block.startswith(codecs.BOM_UTF8):
            block = block.removeprefix(codecs.BOM_UTF8)
            seen.bytes = len(codecs.BOM_UTF8)
    if b"\x00" not in block and max(map(len, block.split(b"\n"))) < seen.file.max_row_bytes:
        with contextlib.suppress(UnicodeDecodeError):
            lines = _split(block.decode(), "\n")
            seen.lines += len(lines)
            seen.bytes += len(block)
            yield lines
            return
    for raw in _split(block, b"\n"):
        try:
            line = _decode(raw, seen)
        except ConfigError as error:
            if not seen.keep_bad_lines:
                raise
            reason = error.message.removeprefix(f"{seen.file.name}: ")
            line = Unreadable(raw[:_KEPT_BYTES].decode("utf-8", "replace"))
            line.fix = f"{reason} ({error.hint})" if error.hint else reason
        seen.lines += 1
        seen.bytes += len(raw)
        yield [line]


def _split(block: AnyStr, newline: AnyStr) -> list[AnyStr]:
    """Split behind line feeds only: a bare carriage return is no line end here."""
    lines = [line + newline for line in block.split(newline)]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


@contextlib.contextmanager
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
            hint = reencode(what, name) if what == "UTF-16" else None
            raise ConfigError(f"{name}: this is {what}, not UTF-8 text", hint=hint)
    if b"\x00" in raw:
        raise ConfigError(f"{name}: byte {raw.index(0)} is zero; this is not a text file")


def _decode(raw: bytes, seen: _Seen) -> str:
    name, number = seen.file.name, seen.lines + 1
    if len(raw) > seen.file.max_row_bytes:
        raise too_large(name, f"line {number}", seen.file.max_row_bytes)
    if b"\x00" in raw:
        zero = seen.bytes + raw.index(0)
        raise ConfigError(f"{name}: byte {zero} is zero (line {number}); this is not a text file")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        start, guess = error.start, guess_encoding(raw)
        around = raw[max(0, start - 12) : start + 12].decode(guess, "replace")
        raise ConfigError(
            f"{name}: not UTF-8 at byte {seen.bytes + start} (line {number}, value 0x{raw[start]:02x}); "
            f"it looks like {guess}: …{around.strip()}…",
            hint=reencode(guess, name),
        ) from None


def reencode(encoding: str, name: str) -> str:
    """Return the command that makes a UTF-8 copy of a file."""
    return f"iconv -f {encoding} -t UTF-8 {name} > utf8-{Path(name).name}"


def guess_encoding(raw: bytes) -> str:
    """Return the likelier of the two encodings that Western files come in when they are not UTF-8.

    Windows-1252 leaves five byte values undefined; a line that uses one of them is Latin-1.
    """
    try:
        raw.decode("windows-1252")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "WINDOWS-1252"
