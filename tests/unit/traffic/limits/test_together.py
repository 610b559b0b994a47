"""What threads ask at the same time is done together, each gets its own answer, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tunery.traffic.limits.together import Together


class Work:
    """Squares numbers; waits for a permission each time where it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Semaphore(0)
        self.may = threading.Semaphore(0)
        self.is_held = False
        self._inside = threading.Lock()

    def __call__(self, asked: Sequence[int]) -> Sequence[int]:
        assert self._inside.acquire(blocking=False)  # one at a time
        try:
            self.batches.append([*asked])
            self.began.release()
            if self.is_held:
                assert self.may.acquire(timeout=10)
            if -1 in asked:
                raise ValueError("minus one")
            return [number * number for number in asked]
        finally:
            self._inside.release()


def test_each_of_many_threads_gets_its_own_answer() -> None:
    work = Work()
    together = Together(work)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(together.ask, range(2_000))] == [n * n for n in range(2_000)]
    assert sorted(number for batch in work.batches for number in batch) == [*range(2_000)]


def test_what_comes_meanwhile_is_one_batch_and_an_error_is_of_that_batch_alone() -> None:
    work = Work()
    work.is_held = True
    together = Together(work)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(together.ask, 1)
        assert work.began.acquire(timeout=10)
        others = [pool.submit(together.ask, number) for number in (2, -1, 3)]
        while len(together._waiting) < 3:
            pass
        work.may.release()
        assert first.result(10) == 1
        work.may.release()
        for other in others:
            with pytest.raises(ValueError, match="minus one"):
                other.result(10)
    work.is_held = False
    assert together.ask(5) == 25
    assert [sorted(batch) for batch in work.batches] == [[1], [-1, 2, 3], [5]]


def test_a_thread_that_is_interrupted_leaves_nobody_waiting() -> None:
    work = Work()
    work.is_held = True
    together = Together(work)

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(together.ask, 1)
            assert work.began.acquire(timeout=10)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            with pytest.raises(InterruptedError):
                together.ask(2)
            last = pool.submit(together.ask, 3)
            work.may.release()
            work.may.release()
            assert (first.result(10), last.result(10)) == (1, 9)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [number for batch in work.batches for number in batch] == [1, 3]
