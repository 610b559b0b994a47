"""Run a Python grader that nobody has read: in a process of its own, behind walls, row by row."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

_WORKER = Path(__file__).with_name("sandbox_worker.py")
_UNSHARE = (
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--ipc",
    "--uts",
    "--mount",
    "--fork",
    "--kill-child",
)
_LONGEST_REPLY = 1 << 16
"""Of a worker [bytes]."""
_ROWS_A_WORKER = 500
"""After so many rows a worker is replaced: what a grader piles up does not last [count]."""
_START_S = 20.0
"""That a worker may take to stand behind its walls, on a busy machine [s]."""
_MOST_FAILURES = 20
"""Workers lost in a row after which the grader is given up: its other rows end as errors at once [count]."""


class Limits(NamedTuple):
    """What a grader may take."""

    seconds: float = 5.0
    """Wall time for one row [s]."""
    memory_bytes: int = 1 << 30
    """Address space [bytes]."""
    file_bytes: int = 1 << 20
    """Largest file that it may write, in a folder that is gone afterwards [bytes]."""


class Grade(NamedTuple):
    """What became of one row."""

    score: float | None
    """As the grader returned it; None where it ended in an error."""
    error: str | None = None


class _Lost(Exception):  # noqa: N818 - a worker is
    """The worker is gone, or no longer to be trusted; says why."""


@cache
def _isolation() -> tuple[str, ...]:
    """Return the command that starts a process in namespaces of its own; empty where the kernel refuses."""
    tool = shutil.which("unshare")
    if tool is None:
        return ()
    command = (tool, *_UNSHARE)
    tried = subprocess.run([*command, "true"], capture_output=True, check=False, timeout=_START_S)
    return command if tried.returncode == 0 else ()


@cache
def missing_walls() -> str | None:
    """Return what a determined grader could do here, as a sentence; None where every wall stands."""
    with Sandbox("def grade(sample, item):\n    return 0.0") as sandbox:
        sandbox.grade({}, {})
        return sandbox.weak if sandbox.walls else "this system starts no sandbox for Python graders"


class Sandbox:
    """A grader's source and the process that runs it; use as a context manager.

    Whatever a row does to its process (a loop, a crash, all memory, noise on the channel) ends as that row's
    error within its time, and the next row gets a new process.

    Walls, each where the system allows it, named in ``walls``: ``network``, ``processes`` and ``files`` are
    Linux namespaces, with Python's own folders as all that can be read; ``system calls`` is a seccomp filter
    that refuses sockets, processes and signals; ``limits`` are rlimits on memory, files and time. Beneath
    them an audit hook refuses the same within Python; alone it is weak, see :attr:`weak`.

    Args:
        source: Python that defines ``grade(sample, item)``.
        limits: What a row may take.
    """

    def __init__(self, source: str, limits: Limits | None = None) -> None:
        self._source, self._limits = source, limits or Limits()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._rows, self._failures = 0, 0
        self._broken: str | None = None
        self.walls: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def weak(self) -> str | None:
        """What a determined grader could still do here, as a sentence; None where every wall stands."""
        missing = [w for w in ("network", "processes", "files", "system calls") if w not in self.walls]
        if not self.walls or not missing:
            return None
        return (
            f"this system gives Python graders no wall around {', '.join(missing)}: what Python itself "
            "refuses keeps out mistakes, not malice; run only graders that you trust here"
        )

    def grade(self, sample: Mapping[str, Any], item: Mapping[str, Any]) -> Grade:
        """Return a row's score, or why there is none; takes the time limit and a restart at most."""
        if self._broken is not None:
            return Grade(None, self._broken)
        key = secrets.token_hex(8)
        try:
            if self._process is None or self._rows >= _ROWS_A_WORKER:
                self._start()
            if self._broken is not None:
                return Grade(None, self._broken)
            self._rows += 1
            reply = self._exchange({"key": key, "sample": sample, "item": item}, self._limits.seconds)
            if reply.get("key") != key:
                raise _Lost("it wrote on the channel of its answers")
        except _Lost as lost:
            self.close()
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                self._broken = f"given up after {_MOST_FAILURES} rows in a row without an answer: {lost}"
            return Grade(None, str(lost))
        self._failures = 0
        return Grade(reply.get("score"), reply.get("error"))

    def close(self) -> None:
        """End the process with all that it started, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _start(self) -> None:
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="tunery-grader-", ignore_cleanup_errors=True)
        root, isolation = self._folder.name, _isolation()
        work = Path(root, "tmp")
        work.mkdir()
        self._process = subprocess.Popen(
            [*isolation, os.path.realpath(sys.executable), "-I", "-S", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd=work,
            start_new_session=True,
        )
        self._rows = 0
        limits = self._limits
        setup = {
            "source": self._source,
            "root": root,
            "isolated": bool(isolation),
            "folders": _python_folders(),
            "limits": {
                "RLIMIT_CORE": 0,
                "RLIMIT_CPU": max(1, int(limits.seconds * _ROWS_A_WORKER)),
                "RLIMIT_AS": limits.memory_bytes,
                "RLIMIT_FSIZE": limits.file_bytes,
                "RLIMIT_NOFILE": 32,
                "RLIMIT_NPROC": 0,
            },
        }
        ready = self._exchange(setup, _START_S)
        self.walls = tuple(ready.get("walls", ()))
        if ready.get("error"):
            self._broken = f"the grader cannot be loaded: {ready['error']}"

    def _exchange(self, message: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send one line and return the one that answers it.

        Raises:
            _Lost: None came in time, or something that is none.
        """
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        until = time.monotonic() + seconds
        data = memoryview(json.dumps(message).encode() + b"\n")
        source, sink, received = process.stdout.fileno(), process.stdin.fileno(), b""
        os.set_blocking(sink, False)
        while not received.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0:
                raise _Lost(f"no answer within {seconds:g} s")
            readable, writable, _ = select.select([source], [sink] if data else [], [], left)
            try:
                if writable:
                    data = data[os.write(sink, data) :]
                if readable:
                    chunk = os.read(source, _LONGEST_REPLY)
                    received += chunk
                    if not chunk:
                        raise _Lost(_how_it_ended(process))
            except BrokenPipeError:
                raise _Lost(_how_it_ended(process)) from None
            if len(received) > _LONGEST_REPLY:
                raise _Lost("it wrote on the channel of its answers")
        try:
            reply = json.loads(received)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise _Lost("it wrote on the channel of its answers")
        return reply


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(timeout=1)
        return f"its process ended ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
    return "its process closed the channel of its answers"


def _python_folders() -> list[str]:
    """Return the folders that Python reads its own modules and libraries from, and no other."""
    own = {
        os.path.realpath(os.path.join(prefix, "lib")) for prefix in (sys.base_prefix, sys.base_exec_prefix)
    }
    return sorted(folder for folder in {*own, "/lib", "/lib64", "/usr/lib"} if os.path.isdir(folder))
