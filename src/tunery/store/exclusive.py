"""One process at a time: a lock that ends with whoever holds it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunery.core.errors import BusyError
from tunery.core.ids import check_id

_AT_WORK = "at-work"
"""Lock that every process shares which makes artifacts."""


@contextmanager
def exclusive(root: Path, name: str) -> Iterator[None]:
    """Hold the lock on ``name`` for the length of a block; a killed process lets go of it by dying.

    Args:
        root: Root folder of the workspace.
        name: Id of what must not be worked on twice at once.

    Raises:
        BusyError: Another process holds it.
    """
    with _held(root, name, fcntl.LOCK_EX, f"{name} is being worked on by another process right now"):
        yield


@contextmanager
def in_use(root: Path) -> Iterator[None]:
    """Say for the length of a block that artifacts are being made, which nothing stored needs yet.

    Raises:
        BusyError: :func:`nobody_at_work` is held right now.
    """
    with _held(root, _AT_WORK, fcntl.LOCK_SH, f"what nothing needs is being freed from {root} right now"):
        yield


@contextmanager
def nobody_at_work(root: Path) -> Iterator[None]:
    """Keep others from making artifacts for the length of a block.

    Raises:
        BusyError: Another process makes some.
    """
    with _held(root, _AT_WORK, fcntl.LOCK_EX, f"another process is at work in {root} right now"):
        yield


@contextmanager
def _held(root: Path, name: str, how: int, busy: str) -> Iterator[None]:
    folder = root / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / check_id(name, "lock")).open("w") as handle:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(busy, hint="tunery jobs ls") from None
        yield
