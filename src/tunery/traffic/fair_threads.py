"""Threads for work before a request's turn, shared between keys by the time that they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tunery.traffic.fair_queue import Capacity, FairQueue, Flow, Turn

T = TypeVar("T")


class FairThreads:
    """A pool that works next for the key that took the least time so far; a thread is kept for new keys.

    Args:
        count: Threads, at least two [count].
        name: Of the threads.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)
        self._queue = FairQueue(Capacity(count, reserve=1), completion_weight=1.0)

    def submit(self, flow: Flow, work: Callable[[], T]) -> Future[T]:
        """Have work done when its turn comes; cancelling the future takes it out of the queue."""
        future: Future[T] = Future()
        turn = self._queue.put(flow, 0, partial(self._begin, future, work))
        future.add_done_callback(lambda _: self._queue.end(turn))
        return future

    def shutdown(self) -> None:
        """Begin nothing more; what waits is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, future: Future[T], work: Callable[[], T], turn: Turn) -> None:
        try:
            self._pool.submit(_run, future, work, turn)
        except RuntimeError:  # shut down
            future.cancel()


def _run(future: Future[T], work: Callable[[], T], turn: Turn) -> None:
    if not future.set_running_or_notify_cancel():
        return
    began = time.monotonic()
    try:
        result = work()
    except BaseException as error:
        turn.tokens += _ms_since(began)
        future.set_exception(error)
    else:
        turn.tokens += _ms_since(began)
        future.set_result(result)


def _ms_since(began: float) -> int:
    return 1 + round((time.monotonic() - began) * 1000)
