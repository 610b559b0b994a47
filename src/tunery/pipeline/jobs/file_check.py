"""The check of an uploaded file in a process of its own, which can be stopped at any moment.

Checking is Python work that holds the interpreter's lock, which in a thread of the server the engine would
have to wait for between two operations, and a thread cannot be ended. A small file is checked where it is,
because starting a process takes longer.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from pydantic import Field

from tunery.core.config import Settings
from tunery.core.errors import ConfigError, ResourceError
from tunery.data.readers.training_file import CheckBudget, FileCheck, check_training_file, refuse_problems

_SMALL = 64 * 2**10
"""Size of a file that is checked in less time than a process takes to start [bytes]."""
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_OVERTIME_S = 5.0
"""What a check may take longer than its own watch says before it is killed [s]."""


class CheckSettings(Settings):
    """What uploads may take."""

    at_once: int = Field(default=8, ge=1)
    """Uploads taken at once [count]; more get a 429 that clients retry by themselves."""
    checks_at_once: int = Field(default=2, ge=1)
    """Uploads checked at once, each in a process of its own [count]; others wait."""
    max_rows: int = Field(default=2_000_000, ge=1)
    """Lines of an uploaded file at most, blank ones counted [count]."""
    max_unpacked_bytes: int = Field(default=2 * 2**30, ge=1)
    """Size of an uploaded file's contents at most, unpacked [bytes]."""
    max_seconds: float = Field(default=120.0, gt=0)
    """Time that checking an uploaded file may take [s]."""

    @property
    def budget(self) -> CheckBudget:
        """What one check may take."""
        return CheckBudget(
            rows=self.max_rows,
            bytes=self.max_unpacked_bytes,
            seconds=self.max_seconds,
            settings=("uploads.max_rows", "uploads.max_unpacked_bytes", "uploads.max_seconds"),
        )


class FileChecks:
    """Checks files within a budget; may be used from any thread."""

    def __init__(self, settings: CheckSettings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def require(self, path: Path, filename: str) -> FileCheck:
        """Check a training file and refuse it when anything is wrong.

        Args:
            path: Its bytes.
            filename: What the user calls it.

        Raises:
            ConfigError: Lists the problems, or names the setting of the limit that it is over.
            ResourceError: The server is about to end.
        """
        budget = self._settings.budget
        with path.open("rb") as stream:
            packed = stream.read(4).startswith(_PACKED)
        if not packed and path.stat().st_size <= _SMALL:
            check = check_training_file(path, budget)
        else:
            check = self._apart(path, filename, budget)
        return refuse_problems(check, filename)

    def close(self) -> None:
        """Stop the checks that run, and begin no more."""
        with self._guard:
            self._closed = True
            for process in self._running:
                process.kill()

    def _apart(self, path: Path, filename: str, budget: CheckBudget) -> FileCheck:
        command = [sys.executable, "-m", "tunery.pipeline.jobs.file_check", str(path)]
        with self._guard:
            if self._closed:
                raise _ending()
            process = subprocess.Popen(
                [*command, json.dumps(budget._asdict())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C meant for the server does not reach it
            )
            self._running.add(process)
        try:
            said, _ = process.communicate(timeout=budget.seconds + 2 * _OVERTIME_S)
        except subprocess.TimeoutExpired:
            raise over_budget(filename, budget) from None
        finally:
            with self._guard:
                self._running.discard(process)
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self._closed:
            raise _ending()
        if process.returncode == -signal.SIGALRM:
            raise over_budget(filename, budget)
        if process.returncode:
            raise ResourceError(
                f"{filename}: the check of this file ended with code {process.returncode}",
                hint="try again; where it stays so, upload the file in parts",
            )
        return FileCheck(**json.loads(said))


def over_budget(filename: str, budget: CheckBudget) -> ConfigError:
    """Return the error for a file whose check takes too long."""
    return ConfigError(
        f"{filename}: checking takes longer than {budget.seconds:g} s ({budget.settings[2]})",
        hint="upload it in parts",
        param="file",
    )


def _ending() -> ResourceError:
    return ResourceError("the server is shutting down", hint="try again")


def main(arguments: list[str]) -> None:
    """Check one file and print what was found as JSON."""
    path, limits = arguments
    given: dict[str, Any] = json.loads(limits)
    budget = CheckBudget(**{**given, "settings": tuple(given["settings"])})
    # Its server may be gone by then; the system ends what does not end by itself.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, budget.seconds + _OVERTIME_S)
    with contextlib.suppress(OSError, AttributeError):
        import os

        os.nice(10)
    sys.stdout.write(json.dumps(check_training_file(Path(path), budget)._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
