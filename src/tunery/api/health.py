"""``/health``: what is looked at all the time, so that asking costs nothing and waits for nothing."""

from __future__ import annotations

import logging
import shutil
import threading
import time

from tunery.core.errors import TuneryError
from tunery.pipeline.gateway.bases import BasePool
from tunery.store.workspace import Workspace

_INTERVAL_S = 2.0
"""Pause between two looks [s]."""
_LATE_S = 5.0
"""How old a look may be before what it waits for counts as away [s]."""
_LOG = logging.getLogger(__name__)


class HealthWatch:
    """Looks at the parts that a server stands on, from a thread of its own.

    A database that is away answers late or never, so it is never asked while a client waits for ``/health``:
    a look that does not come back is itself the answer.

    Args:
        workspace: Its database is read, its disk measured.
        bases: Engines that stopped are opened again from here.
        min_free_bytes: Free disk space that counts as too little [bytes].
        without_database_s: How long requests are served without the database, from what was read before [s].
    """

    def __init__(
        self,
        workspace: Workspace,
        bases: BasePool,
        *,
        min_free_bytes: int,
        without_database_s: float = 0.0,
    ) -> None:
        self._workspace = workspace
        self._bases = bases
        self._min_free_bytes = min_free_bytes
        self._without_database_s = without_database_s
        self._problems: tuple[str, ...] = ()
        self._database: str | None = None
        self._looked_at = self._answered_at = time.monotonic()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("health", self._watch), ("revive", self._revive))
        ]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def problems(self) -> list[str]:
        """Return why the server cannot answer now, a sentence for each reason; empty while it can."""
        away = self.database
        endured = time.monotonic() - self._answered_at < self._without_database_s
        return [*self._bases.problems(), *([] if away is None or endured else [away]), *self._problems]

    @property
    def database(self) -> str | None:
        """Why the database does not answer, None while it does."""
        late = time.monotonic() - self._looked_at - _INTERVAL_S
        return f"the database has not answered for {late:.0f} s" if late > _LATE_S else self._database

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                self._problems = tuple(self._look())
                self._database = self._ask_database()
                if self._database is None:
                    self._answered_at = time.monotonic()
            except Exception as error:
                # Whatever it is, the server does not stand on what it should.
                self._problems = (f"looking after the server failed: {type(error).__name__}",)
                _LOG.exception("looking after the server failed; it is tried again")
            self._looked_at = time.monotonic()
            self._over.wait(_INTERVAL_S)

    def _ask_database(self) -> str | None:
        try:
            self._workspace.database.rows("SELECT 1")
        except TuneryError as error:
            return error.message
        return None

    def _look(self) -> list[str]:
        problems = []
        free = shutil.disk_usage(self._workspace.root).free
        if free < self._min_free_bytes:
            limit = f"{self._min_free_bytes:,} (min_free_bytes)"
            problems.append(f"the disk of {self._workspace.root} has {free:,} bytes left, under {limit}")
        return problems

    def _revive(self) -> None:
        while not self._over.wait(1.0):
            try:
                self._bases.revive()
            except Exception:
                _LOG.exception("an engine could not be opened again; it is tried again")
