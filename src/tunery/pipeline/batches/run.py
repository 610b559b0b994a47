"""One batch from the look at its file to the files of its answers, wherever another server left it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from tunery.core.batch import Batch, BatchAnswer, BatchProblem
from tunery.core.errors import ConflictError, ResourceError, TuneryError
from tunery.pipeline.batches.config import BatchSettings
from tunery.pipeline.batches.lines import RequestLine, check_lines, next_lines, read_lines
from tunery.pipeline.batches.outputs import response_line, write_outputs
from tunery.pipeline.jobs.files import open_content
from tunery.store.workspace import Workspace

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
Halt = Literal["cancelled", "expired", "stopped", "lost"]
_PAUSES_S = (1.0, 60.0)
"""Pauses before a line is sent again: the first, and the longest [s]."""
_TRIES = 3
"""Times a line is sent that the server fails on [count]."""


class Reply(NamedTuple):
    """What a line's request was answered with."""

    status: int
    request_id: str
    body: Mapping[str, Any]
    retry_after_s: float | None
    """When the server wants it sent again; None where it says nothing."""
    final: bool
    """Whether the server says that sending it again changes nothing."""

    @property
    def waits(self) -> bool:
        """Whether the request was not taken, and is to be sent again when there is room for it."""
        return self.status in (408, 429, 503) and not self.final

    @property
    def broke(self) -> bool:
        """Whether the server failed on it."""
        return self.status >= 500 and not self.waits


class Ports(NamedTuple):
    """What a batch is run with."""

    workspace: Workspace
    settings: BatchSettings
    max_line_bytes: int
    ask: Callable[[Batch, RequestLine], Awaitable[Reply]]
    """Sends one line as a request of the key that made the batch."""
    slots: asyncio.Semaphore
    """Places for lines being answered, shared by all batches."""
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Runs what blocks."""


class BatchRun:
    """Works on one batch that a worker holds.

    Args:
        batch: As it was when it was claimed.
        worker: Name that it is held under.
    """

    def __init__(self, ports: Ports, batch: Batch, worker: str) -> None:
        self._ports = ports
        self._worker = worker
        self._halted = asyncio.Event()
        self._why: Halt | None = None
        self.batch = batch

    def halt(self, why: Halt) -> None:
        """Begin no more lines; the first reason counts, except that a lost lease is lost."""
        if self._why is None or why == "lost":
            self._why = why
        self._halted.set()

    async def run(self) -> None:
        """Go on with the batch, to its end or until it is halted.

        Raises:
            ResourceError: It cannot be worked on now, and is to be taken up again later.
            ConflictError: It is another worker's.
        """
        left_s = (self.batch.expires_at - self._ports.workspace.clock.now()).total_seconds()
        expiry = asyncio.get_running_loop().call_later(max(0.0, left_s), self.halt, "expired")
        try:
            await self._run()
        except (ResourceError, ConflictError):
            raise
        except TuneryError as error:
            problem = BatchProblem(code=error.code, message=error.message, param=error.param)
            await self._end_failed((problem,))
        finally:
            expiry.cancel()

    async def _run(self) -> None:
        workspace, batch = self._ports.workspace, self.batch
        if batch.status == "cancelling":
            self.halt("cancelled")
        path: Path = await self._blocking(lambda: open_content(workspace, batch.input_file_id))
        if not batch.lines and not await self._is_valid(path):
            return
        if batch.ends_as is None:
            await self._answer_all(path)
            if self._why in ("stopped", "lost"):
                return
            await self._advance(
                status="finalizing", finalizing_at=workspace.clock.now(), ends_as=self._why or "completed"
            )
        made = await self._blocking(lambda: write_outputs(workspace, self.batch, path))
        ends_as = self.batch.ends_as or "completed"
        await self._blocking(lambda: workspace.batches.end(batch.id, self._worker, ends_as, **made._asdict()))

    async def _is_valid(self, path: Path) -> bool:
        """Look at the whole file; a batch whose file is wrong has failed, and nothing of it is sent."""
        settings = self._ports.settings
        checked = await self._blocking(
            lambda: check_lines(
                path,
                self.batch.endpoint,
                max_lines=settings.max_lines,
                max_line_bytes=self._ports.max_line_bytes,
            )
        )
        if checked.problems:
            await self._end_failed(checked.problems)
            return False
        await self._advance(
            status="in_progress",
            in_progress_at=self._ports.workspace.clock.now(),
            lines=checked.lines,
            model=checked.model,
        )
        return True

    async def _answer_all(self, path: Path) -> None:
        done = await self._blocking(lambda: self._ports.workspace.batches.lines_answered(self.batch.id))
        # As many as are answered at once: those that wait for room hold no place that others could use.
        window = asyncio.Semaphore(self._ports.settings.at_once)
        async with asyncio.TaskGroup() as group:
            async for line in self._unanswered(path, done):
                await window.acquire()
                if self._halted.is_set():
                    break
                task = group.create_task(self._answer(line))
                task.add_done_callback(lambda _: window.release())

    async def _unanswered(self, path: Path, done: set[int]) -> AsyncIterator[RequestLine]:
        lines: Iterator[RequestLine] = read_lines(path, done)
        while not self._halted.is_set():
            some = await self._blocking(lambda: next_lines(lines))
            if not some:
                return
            for line in some:
                yield line

    async def _answer(self, line: RequestLine) -> None:
        """Send a line until it has an answer, and keep that; what is halted before is not answered."""
        pause, tries = _PAUSES_S[0], 0
        while not self._halted.is_set():
            async with self._ports.slots:
                if self._halted.is_set():
                    return
                reply = await self._ports.ask(self.batch, line)
                tries += 1
                if not reply.waits and not (reply.broke and tries < _TRIES):
                    # Within its place: what is not stored yet counts as being answered.
                    await self._keep(response_line(self.batch, line, reply))
                    return
            await self._wait(max(reply.retry_after_s or 0.0, random.uniform(pause / 2, pause)))  # noqa: S311 - nothing to guess
            pause = min(2 * pause, _PAUSES_S[1])

    async def _keep(self, answer: BatchAnswer) -> None:
        """Store an answer, however long the database is away."""
        pause = _PAUSES_S[0]
        while self._why != "lost":
            try:
                await self._blocking(
                    lambda: self._ports.workspace.batches.keep(self.batch.id, self._worker, [answer])
                )
            except ConflictError:
                self.halt("lost")
            except ResourceError as error:
                if self._why == "stopped":
                    _LOG.warning("%s: an answer is lost and computed again: %s", self.batch.id, error.message)
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, _PAUSES_S[1])
            else:
                return

    async def _end_failed(self, problems: tuple[BatchProblem, ...]) -> None:
        batches = self._ports.workspace.batches
        await self._blocking(lambda: batches.end(self.batch.id, self._worker, "failed", problems=problems))

    async def _advance(self, **changes: Any) -> None:
        batches = self._ports.workspace.batches
        self.batch = await self._blocking(lambda: batches.advance(self.batch.id, self._worker, **changes))

    async def _blocking(self, work: Callable[[], T]) -> T:
        done: T = await self._ports.in_thread(work)
        return done

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._halted.wait()
        except TimeoutError:
            pass
