"""A server that is started here and watched: health, log, restarts, and an end with ours."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import NamedTuple

from tunery.core.errors import ResourceError
from tunery.text.pii.secrets import find_secrets, masked

_LOG = logging.getLogger(__name__)
_WATCHDOG = Path(__file__).with_name("watchdog.py")
_LOOK_S = 0.1
_LONG_RUN_S, _LONGEST_PAUSE_S = 60.0, 60.0
_TAIL = 20
_LOG_BYTES = 16 * 2**20


class Command(NamedTuple):
    """What is started."""

    arguments: tuple[str, ...]
    """Program and arguments; there is no shell."""
    environment: Mapping[str, str] = {}
    """Variables besides those of this process."""
    secrets: tuple[str, ...] = ()
    """Values that are never written to the log."""
    log: Path | None = None
    """File that takes what it writes; None for none."""
    start_s: float = 600.0
    """Longest time until it is healthy [s]."""


class ServerProcess:
    """A server's process, started again with growing pauses when it dies.

    Args:
        command: What is started.
        healthy: Whether it answers; asked until it does.
        begun: Called whenever it has become healthy, before it counts as up.

    Raises:
        ResourceError: It cannot be started, ended, or was not healthy in time; with its last lines.
    """

    def __init__(
        self, command: Command, healthy: Callable[[], bool], begun: Callable[[], None] = lambda: None
    ) -> None:
        self._command = command
        self._healthy = healthy
        self._begun = begun
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._up = threading.Event()
        self._closed = threading.Event()
        self._reason = "it has not been started"
        self._process: subprocess.Popen[str] | None = None
        self._pipe = -1
        self._lock = threading.Lock()
        self._log: threading.Thread | None = None
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        self._watch = threading.Thread(target=self._keep_up, name="engine-watch", daemon=True)
        self._watch.start()

    @property
    def problem(self) -> str | None:
        """Why it does not answer now; None where it does."""
        return None if self._up.is_set() else self._reason

    def wait_up(self, timeout_s: float) -> bool:
        """Wait until it is up; whether it is."""
        return self._up.wait(timeout_s)

    def close(self) -> None:
        """End it and all that it started."""
        self._closed.set()
        self._up.clear()
        self._reason = "it is closed"
        self._end()

    def _start(self) -> None:
        self._tail.clear()
        read, write = os.pipe()
        try:
            # Its own session: Ctrl-C ends us, and we end it after the answers that run.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WATCHDOG), str(read), *self._command.arguments],
                pass_fds=(read,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._command.environment},
                start_new_session=True,
                text=True,
                errors="replace",
            )
        finally:
            os.close(read)
        self._process, self._pipe = process, write
        self._log = threading.Thread(target=self._take_log, args=(process,), name="engine-log", daemon=True)
        self._log.start()
        until = time.monotonic() + self._command.start_s
        while not self._healthy():
            if process.poll() is not None:
                self._log.join(1.0)
                raise self._failed(f"ended with {process.returncode} before it was healthy")
            if time.monotonic() > until:
                raise self._failed(f"was not healthy within {self._command.start_s:g} s")
            if self._closed.wait(_LOOK_S):
                raise self._failed("was closed while it started")
        self._begun()
        self._up.set()

    def _failed(self, what: str) -> ResourceError:
        shown = shlex.join(self._command.arguments[:4])
        last = "".join(f"\n  {line}" for line in self._tail)
        where = f"read {self._command.log}" if self._command.log else "run the command by hand"
        return ResourceError(f"the engine's server ({shown} …) {what}{last}", hint=where)

    def _keep_up(self) -> None:
        failures, started = 0, time.monotonic()
        while not self._closed.is_set():
            if (process := self._process) is not None:
                status = process.wait()
                self._up.clear()
                if self._closed.is_set():
                    return
                self._reason = f"the engine's server ended with {status} and is started again"
                _LOG.error("%s; its last line: %s", self._reason, self._tail[-1] if self._tail else "none")
            failures = 1 if time.monotonic() - started > _LONG_RUN_S else failures + 1
            if self._closed.wait(min(_LONGEST_PAUSE_S, 0.25 * 2**failures)):
                return
            self._end()
            started = time.monotonic()
            try:
                self._start()
            except Exception as error:  # whatever it is, the next try may work
                self._reason = f"the engine's server cannot be started: {error}"
                _LOG.error("%s", self._reason)
                self._end()
            else:
                _LOG.warning("the engine's server answers again")

    def _take_log(self, process: subprocess.Popen[str]) -> None:
        log, lines = self._command.log, process.stdout
        if lines is None:
            return
        handler: logging.Handler = logging.NullHandler()
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            handler = RotatingFileHandler(log, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
        with lines, contextlib.closing(handler):
            for line in lines:
                shown = self._redacted(line.rstrip("\n"))
                self._tail.append(shown)
                handler.emit(logging.makeLogRecord({"msg": shown}))

    def _redacted(self, line: str) -> str:
        for secret in self._command.secrets:
            line = line.replace(secret, "…")
        return masked(line, find_secrets(line))

    def _end(self) -> None:
        with self._lock:
            process, pipe = self._process, self._pipe
            self._process, self._pipe = None, -1
        if pipe >= 0:
            os.close(pipe)
        if process is not None:
            process.wait()
        if self._log is not None:
            self._log.join(1.0)  # what it wrote last
