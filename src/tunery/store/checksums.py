"""Checksums of files, read again whenever a file could have changed."""

from __future__ import annotations

import contextlib
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tunery.core.ids import sha256_file

_SMALL_BYTES = 4 << 20
"""A file up to this size is read every time: that takes milliseconds [bytes]."""
_SETTLED_NS = 2_000_000_000
"""A checksum is remembered once its file was left alone for this long; clocks of file systems are coarse, and
a write in the same tick as the one before leaves no trace [ns]."""


class FileIdentity(NamedTuple):
    """What of a file changes with its content, unless somebody writes to the bare disk.

    Size and time of modification alone could both be set to what they were; the time of change cannot.
    """

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int


def identity_of(path: Path) -> FileIdentity:
    """Return the identity of the file at ``path``, links followed."""
    stat = path.stat()
    return FileIdentity(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits, computed in this process.

    A small file is read each time, a large one once for each identity.

    Raises:
        OSError: The file cannot be read, or is written to meanwhile.
    """
    identity = identity_of(path)
    if identity.bytes <= _SMALL_BYTES or not _is_settled(identity):
        return sha256_file(path)
    return _computed(str(path), identity)


def remembered_checksum(path: Path) -> str:
    """Return :func:`checksum`, from a note beside the file where an earlier process computed it.

    For what names a base, not for what computes with it: reading gigabytes takes longer than most commands.
    """
    identity = identity_of(path)
    if identity.bytes <= _SMALL_BYTES:
        return sha256_file(path)
    key, note = "-".join(map(str, identity)), note_of(path)
    try:
        known, digest = note.read_text(encoding="ascii").split()
        if known == key and re.fullmatch(r"[0-9a-f]{64}", digest):
            return digest
    except (OSError, ValueError):
        pass
    digest = checksum(path)
    if _is_settled(identity):
        with contextlib.suppress(OSError):  # a folder that may only be read: computed again next time
            note.write_text(f"{key} {digest}\n", encoding="ascii")
    return digest


def note_of(path: Path) -> Path:
    """Return where the checksum of a large file is noted."""
    return path.with_name(f".{path.name}.sha256")


def _is_settled(identity: FileIdentity) -> bool:
    return time.time_ns() - max(identity.modified_ns, identity.changed_ns) > _SETTLED_NS


@lru_cache(maxsize=4096)
def _computed(path: str, identity: FileIdentity) -> str:
    digest = sha256_file(Path(path))
    if identity_of(Path(path)) != identity:
        raise OSError(f"{path} is being written to")
    return digest
