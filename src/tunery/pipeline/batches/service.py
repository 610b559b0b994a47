"""Takes batches as they come, holds those that are worked on, and hands them back when the server ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tunery.core.batch import Batch
from tunery.core.errors import ConflictError, TuneryError
from tunery.pipeline.batches.config import BatchSettings
from tunery.pipeline.batches.lines import RequestLine
from tunery.pipeline.batches.run import BatchRun, Ports, Reply
from tunery.pipeline.jobs.processes import is_gone, this_process
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
_THREADS = 4
"""Threads for what blocks, of their own: files are checked beside answers being stored [count]."""
_AGAIN_S = 5.0
"""Pause before a batch is taken up again that could not be worked on [s]."""


class BatchService:
    """Works on the batches of a database, beside any number of other servers.

    Args:
        ask: Sends one line as a request of the key that made the batch.
        max_line_bytes: Size of one line at most [bytes].
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: BatchSettings,
        ask: Callable[[Batch, RequestLine], Awaitable[Reply]],
        *,
        max_line_bytes: int,
    ) -> None:
        self.settings = settings
        self._workspace = workspace
        self._threads = ThreadPoolExecutor(_THREADS, "batches")
        slots = asyncio.Semaphore(settings.at_once)
        self._ports = Ports(workspace, settings, max_line_bytes, ask, slots, self._in_thread)
        self._runs: dict[str, _Held] = {}
        self._again_at = 0.0
        self._stopping = False
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for batches; called in the event loop."""
        if self.settings.run:
            self._loop = asyncio.create_task(self._look(), name="batches")

    def look(self) -> None:
        """Look for batches now, because one has come; may be called from any thread."""
        if self._loop is not None:
            self._loop.get_loop().call_soon_threadsafe(self._wake.set)

    def stop(self) -> None:
        """Begin no more lines; those that are being answered may end."""
        self._stopping = True
        for held in self._runs.values():
            held.run.halt("stopped")
        self._wake.set()

    async def close(self) -> None:
        """Return once every batch is handed back."""
        self.stop()
        if self._loop is not None:
            await self._loop
        await asyncio.gather(*(held.task for held in self._runs.values()), return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look(self) -> None:
        while not self._stopping:
            try:
                await self._take()
                for held in list(self._runs.values()):
                    await self._see_to(held)
            except TuneryError as error:
                _LOG.warning("batches wait: %s", error.message)
            except Exception:
                _LOG.exception("looking for batches failed; it is tried again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.poll_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _take(self) -> None:
        claim = self._workspace.batches.claim
        while len(self._runs) < self.settings.batches_at_once and not self._stopping:
            if time.monotonic() < self._again_at:
                return
            worker = f"{this_process()}/{uuid.uuid4().hex[:12]}"
            batch = await self._in_thread(lambda: claim(worker, self.settings.lease_s, is_gone))  # noqa: B023 - awaited
            if batch is None:
                return
            ports = self._ports._replace(workspace=self._workspace.of(batch.project))
            run = BatchRun(ports, batch, worker)
            task = asyncio.create_task(self._work(run, worker), name=batch.id)
            self._runs[worker] = _Held(run, worker, task)

    async def _see_to(self, held: _Held) -> None:
        """Hold a batch for longer where it is time, and halt it where somebody cancelled it."""
        batches, id = self._workspace.batches, held.run.batch.id
        due = time.monotonic() - held.held_at > self.settings.lease_s / 3
        try:
            if due:
                held.held_at = time.monotonic()
                lease_s = self.settings.lease_s
                batch = await self._in_thread(lambda: batches.hold(id, held.worker, lease_s))
            else:
                batch = await self._in_thread(lambda: batches.get(id))
        except ConflictError:
            if not held.task.done():
                held.run.halt("lost")
            return
        if batch.status == "cancelling":
            held.run.halt("cancelled")

    async def _work(self, run: BatchRun, worker: str) -> None:
        try:
            await run.run()
        except ConflictError as error:
            _LOG.warning("%s: %s", run.batch.id, error.message)
        except Exception as error:
            self._again_at = time.monotonic() + _AGAIN_S
            if isinstance(error, TuneryError):
                _LOG.warning("%s waits: %s", run.batch.id, error.message)
            else:
                _LOG.exception("%s: this went wrong; it is tried again", run.batch.id)
        finally:
            with contextlib.suppress(TuneryError):
                await self._in_thread(lambda: self._workspace.batches.let_go(run.batch.id, worker))
            self._runs.pop(worker, None)
            self._wake.set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._threads.submit(work))


class _Held:
    """A batch that this server works on."""

    def __init__(self, run: BatchRun, worker: str, task: asyncio.Task[None]) -> None:
        self.run = run
        self.worker = worker
        self.task = task
        self.held_at = time.monotonic()
