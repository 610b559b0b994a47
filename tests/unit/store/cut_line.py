"""A TCP line to a server that can be cut and mended, as a network does."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import Self


class CutLine:
    """Passes bytes between a free loopback port and a server until it is cut; then nobody gets through."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        self.cuts = 0
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._is_cut = threading.Event()
        self._is_hushed = threading.Event()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self.cut()
        self._listening.close()

    def cut(self) -> None:
        """End every connection in the middle of what it says, and let no new one through."""
        self._is_cut.set()
        self.cuts += 1
        with self._guard:
            ended, self._open = self._open, set()
        for end in ended:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def hush(self) -> None:
        """Keep connections open and hold back all that is said, as a network does that swallows packets."""
        self._is_hushed.set()

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut.clear()
        self._is_hushed.clear()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, socket.create_connection(self._target) as far:
            with self._guard:
                if self._is_cut.is_set():
                    return
                self._open |= {near, far}
            while not self._is_cut.is_set():
                if self._is_hushed.is_set():
                    time.sleep(0.02)
                    continue
                for end in select.select([near, far], [], [], 0.2)[0]:
                    if not (said := end.recv(65_536)):
                        return
                    (far if end is near else near).sendall(said)
