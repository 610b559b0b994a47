"""Calls from many threads at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tunery.store.workspace import Workspace

T = TypeVar("T")


def at_once(workspace: Workspace, threads: int, call: Callable[[int], T]) -> list[T]:
    """Return what ``call(0) … call(threads - 1)`` return when all begin at the same moment."""
    gate = threading.Barrier(threads, timeout=30)

    def wait_and_call(number: int) -> T:
        # Every thread has a connection of its own before the start; else they would begin one by one.
        with workspace.database.snapshot() as transaction:
            transaction.rows("SELECT 1 AS one")
            gate.wait()
        gate.wait()
        return call(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(wait_and_call, range(threads)))
