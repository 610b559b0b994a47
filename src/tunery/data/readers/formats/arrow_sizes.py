"""How much an Arrow file says it unpacks to, read from its headers before anything is unpacked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

_CONTINUATION = 0xFFFFFFFF
_DICTIONARY, _BATCH = 2, 3
_MAX_HEADER_BYTES = 64 << 20
"""Longest header of a message accepted; one of a table of ten thousand columns has some 500 kB [bytes]."""


def unpacked_sizes(stream: IO[bytes]) -> Iterator[int]:
    """Yield for each message of a stream of Arrow messages what its buffers unpack to [bytes].

    Bodies are passed over but for the eight bytes before each packed buffer that tell its size.

    Args:
        stream: Seekable, at the first message; in a file that is the ninth byte.

    Raises:
        ValueError: The headers contradict each other or the stream's length.

    Source:
        Arrow columnar format, https://arrow.apache.org/docs/format/Columnar.html: encapsulated messages and
        buffer compression; flatbuffers, https://flatbuffers.dev/internals: tables and vectors.
    """
    while (length := _header_length(stream)) > 0:
        message = _Table.root(stream.read(length))
        body, start = message.integer(3, "<q"), stream.tell()
        if body < 0:
            raise ValueError("a message of negative length")
        header, kind = message.table(2), message.integer(1, "<B")
        batch = header.table(1) if header is not None and kind == _DICTIONARY else header
        if batch is not None and kind in (_BATCH, _DICTIONARY):
            yield _unpacked(stream, start, body, batch)
        stream.seek(start + body)


def _header_length(stream: IO[bytes]) -> int:
    """Return the length of the next message's header, 0 at the end."""
    head = stream.read(4)
    if len(head) == 4 and int.from_bytes(head, "little") == _CONTINUATION:
        head = stream.read(4)
    length = int.from_bytes(head, "little") if len(head) == 4 else 0
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length:,} bytes")
    return length


def _unpacked(stream: IO[bytes], start: int, body: int, batch: _Table) -> int:
    if batch.at(3) is None:  # nothing is packed
        return body
    total = 0
    for offset, size in batch.pairs(2):
        if size < 8:
            continue
        stream.seek(start + offset)
        told = _number(stream.read(8), "<q", 0)
        total += size if told < 0 else told
    return total


class _Table:
    """One table of a flatbuffer."""

    def __init__(self, buffer: bytes, start: int) -> None:
        self._buffer, self._start = buffer, start
        self._fields = start - _number(buffer, "<i", start)
        self._count = (_number(buffer, "<H", self._fields) - 4) // 2

    @classmethod
    def root(cls, buffer: bytes) -> _Table:
        """Return the table that a buffer holds."""
        return cls(buffer, _number(buffer, "<I", 0))

    def at(self, field: int) -> int | None:
        """Return where a field lies; None where it has its default."""
        if field >= self._count:
            return None
        offset = _number(self._buffer, "<H", self._fields + 4 + 2 * field)
        return self._start + offset if offset else None

    def integer(self, field: int, form: str) -> int:
        """Return a number; 0 by default."""
        at = self.at(field)
        return 0 if at is None else _number(self._buffer, form, at)

    def table(self, field: int) -> _Table | None:
        """Return an inner table."""
        at = self.at(field)
        return None if at is None else _Table(self._buffer, at + _number(self._buffer, "<I", at))

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """Yield the pairs of 64-bit numbers of a vector."""
        at = self.at(field)
        if at is None:
            return
        at += _number(self._buffer, "<I", at)
        for i in range(_number(self._buffer, "<I", at)):
            first = at + 4 + 16 * i
            yield _number(self._buffer, "<q", first), _number(self._buffer, "<q", first + 8)


def _number(buffer: bytes, form: str, at: int) -> int:
    if at < 0 or at + struct.calcsize(form) > len(buffer):
        raise ValueError("a header that points outside itself")
    return int(struct.unpack_from(form, buffer, at)[0])
