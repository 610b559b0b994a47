"""A text file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tunery.store.whole_folder import sync

_SUFFIX = ".partial"


@contextmanager
def write_whole(path: Path) -> Iterator[TextIO]:
    """Open a stream whose text is found at ``path`` once the ``with`` block has ended without an error.

    Until then whatever was at ``path`` stays, and after an error nothing else is left. What a killed process
    left of an earlier try is removed.

    Raises:
        OSError: It cannot be written; whoever calls knows what to say of it.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    dead_partials(path.parent, f".{glob.escape(path.name)}.*{_SUFFIX}", remove=True)
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX)  # tells it from what a killed process left
            yield stream
            stream.flush()  # the text must be on the disk before its name is
            os.fsync(stream.fileno())
            partial.replace(path)
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def dead_partials(folder: Path, pattern: str = f".*{_SUFFIX}", *, remove: bool) -> list[Path]:
    """Return the half-written files in ``folder`` whose writers are dead.

    Args:
        folder: Where to look.
        pattern: Of their names; all of :func:`write_whole`'s by default.
        remove: Whether they go.
    """
    found = []
    for partial in sorted(folder.glob(pattern)):
        try:
            with partial.open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(partial)
                if remove:
                    partial.unlink()
        except OSError:
            continue  # held, a folder, gone meanwhile, or not ours to remove
    return found


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, as :func:`write_whole` does."""
    with write_whole(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
