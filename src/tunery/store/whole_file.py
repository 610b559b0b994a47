"""A text file that appears whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


@contextmanager
def write_whole(path: Path) -> Iterator[TextIO]:
    """Open a stream whose text is found at ``path`` once the ``with`` block has ended without an error.

    Until then whatever was at ``path`` stays, and after an error nothing else is left.

    Raises:
        OSError: It cannot be written; whoever calls knows what to say of it.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()  # the text must be on the disk before its name is
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, as :func:`write_whole` does."""
    with write_whole(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
