"""Ctrl-C and SIGTERM: exceptions by default, requests where something is to be finished first."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WAITING = "Waiting for the answers on their way; Ctrl-C once more leaves them behind"
"""What is said where answers were paid for."""


class Terminated(KeyboardInterrupt):
    """SIGTERM; whoever cleans up after a Ctrl-C cleans up after it too."""


@contextmanager
def until_asked(say: str) -> Iterator[Callable[[], bool]]:
    """Have the first Ctrl-C or SIGTERM within the block only ask to stop; a second one ends at once.

    Args:
        say: Written to stderr when the first one comes: what is waited for.

    Yields:
        What tells whether it was asked.

    Raises:
        KeyboardInterrupt: Whoever was asked has stopped by one, which becomes :class:`Terminated` where it
            was SIGTERM that asked.
    """
    asked: list[type[KeyboardInterrupt]] = []

    def ask(number: int, frame: object) -> None:
        kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if asked:
            raise kind
        asked.append(kind)
        # Not through the progress: whatever it was doing when the signal came is not finished.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{say}\n".encode())

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield lambda: bool(asked)
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    except KeyboardInterrupt as stop:
        raise (asked[0] if asked else type(stop))(*stop.args) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
