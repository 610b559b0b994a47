"""Uploads: a few at a time, each checked apart from everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from tunery.core.errors import LimitError, ResourceError
from tunery.pipeline.jobs.file_check import CheckSettings, FileChecks

T = TypeVar("T")


class Uploads:
    """Places for uploads, and threads of their own for what is done with them.

    Args:
        settings: How many at once, and what a check may take.
    """

    def __init__(self, settings: CheckSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.checks_at_once, "upload")
        self._open = 0
        self._closed = False
        self.checks = FileChecks(settings)
        """Checks of their contents."""

    @property
    def open(self) -> int:
        """Uploads being taken [count]."""
        return self._open

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for uploads.

        Raises:
            LimitError: All are taken.
        """
        if self._open >= self._settings.at_once:
            raise LimitError(
                f"{self._open} uploads are being taken and that is the limit (uploads.at_once)",
                hint="try again shortly",
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work on an upload in a thread of its own kind.

        Raises:
            ResourceError: The server is about to end.
        """
        if self._closed:
            raise ResourceError("the server is shutting down", hint="try again")
        return await asyncio.wrap_future(self._threads.submit(work))

    def close(self) -> None:
        """Stop the checks that run; those that wait never begin."""
        self._closed = True
        self.checks.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
