"""The command line in a process of its own, forked from the tests': killed as one that was typed.

What the tests have imported need not be imported again, which takes longer than most commands do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tunery.cli.main import main


class Forked(NamedTuple):
    """A command that runs."""

    process: multiprocessing.process.BaseProcess
    written: Path
    """What it wrote to stdout and stderr."""

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self.process.exitcode

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as ``kill -9`` does, and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def end(self, timeout: float = 120) -> tuple[int, str]:
        """Wait for its end; return its exit code, below 0 where a signal ended it, and what it wrote."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still runs after {timeout} s: {self.text}"
        return self.process.exitcode, self.text

    @property
    def text(self) -> str:
        """What it wrote so far."""
        return self.written.read_text(encoding="utf-8")


@contextmanager
def forked(
    arguments: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Forked]:
    """Run what is typed behind ``tunery`` until the block ends, or it does.

    Args:
        arguments: As typed.
        folder: Where the file of what it writes is made.
        environment: What is set beside this process's own.
    """
    written = folder / f"written-{len(list(folder.glob('written-*')))}.txt"
    written.touch()
    typed = [str(argument) for argument in arguments]
    process = multiprocessing.get_context("fork").Process(
        target=_execute, args=(typed, written, dict(environment or {}))
    )
    process.start()
    try:
        yield Forked(process, written)
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def _execute(arguments: list[str], written: Path, environment: dict[str, str]) -> None:
    code = 1
    try:
        os.environ.update(environment)
        os.dup2(os.open(written, os.O_WRONLY | os.O_APPEND), 2)
        os.dup2(2, 1)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["tunery", *arguments]
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # nothing of the tests' own process is cleaned up twice
