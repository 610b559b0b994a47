"""Long work of one key holds up its own key alone."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from tunery.traffic.fair_queue import Flow
from tunery.traffic.fair_threads import FairThreads


def test_one_keys_long_work_does_not_stand_before_anothers() -> None:
    threads, go_on = FairThreads(3, "test"), threading.Event()
    try:
        long = [threads.submit(Flow("a"), lambda: go_on.wait(20)) for _ in range(30)]
        assert threads.submit(Flow("b"), lambda: "done").result(timeout=10) == "done"
        assert not any(work.done() for work in long)
        go_on.set()
        assert all(work.result(timeout=10) for work in long)
    finally:
        threads.shutdown()


def test_what_is_cancelled_or_fails_makes_room() -> None:
    threads, go_on, done = FairThreads(2, "test"), threading.Event(), list[str]()

    def fail() -> None:
        raise ValueError("no")

    try:
        first = threads.submit(Flow("a"), lambda: go_on.wait(20))
        gone: Future[None] = threads.submit(Flow("a"), lambda: done.append("gone"))
        failing = threads.submit(Flow("a"), fail)
        last = threads.submit(Flow("a"), lambda: done.append("last"))
        assert gone.cancel()
        go_on.set()
        assert first.result(timeout=10)
        with pytest.raises(ValueError, match="no"):
            failing.result(timeout=10)
        last.result(timeout=10)
        assert done == ["last"]
    finally:
        threads.shutdown()
