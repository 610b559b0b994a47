"""A file of JSON lines that grows while a process works, and outlives its being killed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tunery.core.errors import BusyError
from tunery.store.whole_folder import sync


class GrowingLines:
    """Lines of one writer; ``with`` closes the file.

    What :meth:`append` returned from is on the disk. A last line that a kill or a full disk cut off is taken
    away when the file is opened.

    Args:
        path: The file; it is begun where there is none.

    Raises:
        BusyError: Another process has it open.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as on_error:
            self._stream = on_error.enter_context(path.open("a+b"))
            self.lines = self._whole_lines()
            on_error.pop_all()

    def _whole_lines(self) -> list[bytes]:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{self.path} is in use by another process", hint="wait for it, or write to another file"
            ) from None
        self._stream.seek(0)
        lines = list(self._stream)  # once in memory, not as a whole and in parts: it may be large
        if lines and not lines[-1].endswith(b"\n"):
            torn = lines.pop()
            self._stream.truncate(os.fstat(self._stream.fileno()).st_size - len(torn))
        for number, line in enumerate(lines):
            lines[number] = line[:-1]
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, entries: Iterable[Mapping[str, Any]]) -> int:
        """Write one line an entry, on the disk when this returns; return where the first begins [bytes]."""
        lines = "".join(f"{json.dumps(entry, ensure_ascii=False, allow_nan=False)}\n" for entry in entries)
        begin = os.fstat(self._stream.fileno()).st_size
        self._stream.write(lines.encode("utf-8"))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        if begin == 0:
            sync(self.path.parent)
        return begin

    def line_at(self, begin: int) -> bytes:
        """Return the line that begins at a byte."""
        with self.path.open("rb") as stream:
            stream.seek(begin)
            return stream.readline()

    def restart(self) -> None:
        """Take everything away."""
        self._stream.truncate(0)
        self._stream.seek(0)
        self.lines = []

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()
