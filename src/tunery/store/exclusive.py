"""One process at a time: a lock that ends with whoever holds it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunery.core.errors import BusyError
from tunery.core.ids import check_id


@contextmanager
def exclusive(root: Path, name: str) -> Iterator[None]:
    """Hold the lock on ``name`` for the length of a block; a killed process lets go of it by dying.

    Args:
        root: Root folder of the workspace.
        name: Id of what must not be worked on twice at once.

    Raises:
        BusyError: Another process holds it.
    """
    folder = root / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / check_id(name, "lock")).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"{name} is being worked on by another process right now", hint="tunery jobs ls"
            ) from None
        yield
