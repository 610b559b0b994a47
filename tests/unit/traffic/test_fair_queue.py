"""Whose turn it is: shares by weight, no turns saved up, a free place for a newcomer, nothing lost."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.traffic.fair_queue import Capacity, FairQueue, Flow, Turn


class Bench:
    """An engine of which the test says when a request gets a token and when it ends."""

    def __init__(self, capacity: Capacity) -> None:
        self.queue = FairQueue(capacity)
        self.began: list[Turn] = []

    def put(self, key: str, prompt: int = 10, weight: float = 1.0, priority: int = 0) -> Turn:
        return self.queue.put(Flow(key, weight, priority), prompt, self.began.append)

    def serve(self, turn: Turn, tokens: int = 10) -> None:
        for _ in range(tokens):
            self.queue.token(turn)
        self.queue.end(turn)

    def order(self) -> str:
        """Serve one after the other, and return whose they were."""
        served = 0
        while served < len(self.began):
            self.serve(self.began[served])
            served += 1
        return "".join(turn.flow.key for turn in self.began)


def test_one_keys_many_do_not_stand_before_anothers_one() -> None:
    bench = Bench(Capacity(slots=1))
    for _ in range(120):
        bench.put("a")
    bench.put("b")
    assert bench.order().index("b") == 1


def test_keys_share_tokens_by_their_weights_not_requests() -> None:
    bench = Bench(Capacity(slots=1))
    for _ in range(60):
        bench.put("a", weight=2.0)
        bench.put("b")
    assert Counter(bench.order()[:90])["a"] == pytest.approx(60, abs=2)
    long = Bench(Capacity(slots=1))
    for _ in range(40):
        long.put("a", prompt=90)
        long.put("b", prompt=15)  # with ten tokens of answer each: 110 against 35
    first = Counter(long.order()[:40])
    assert first["b"] / first["a"] == pytest.approx(110 / 35, rel=0.2)


def test_a_pause_saves_up_no_turns_and_costs_none() -> None:
    bench = Bench(Capacity(slots=1))
    for _ in range(50):
        bench.put("a")
    bench.order()
    bench.began.clear()
    for key in "ab" * 10:
        bench.put(key)
    assert Counter(bench.order()[:8])["a"] in (3, 4, 5)


def test_places_are_kept_for_keys_that_have_none() -> None:
    bench = Bench(Capacity(slots=4, reserve=1))
    for _ in range(10):
        bench.put("a")
    assert bench.queue.running == 3
    bench.put("b")
    assert [turn.flow.key for turn in bench.began] == ["a", "a", "a", "b"]
    bench.put("b")
    bench.put("c")
    assert len(bench.began) == 4
    bench.queue.end(bench.began[0])
    assert bench.began[-1].flow.key == "c"


def test_requests_are_handed_over_as_the_engine_takes_them_up() -> None:
    bench = Bench(Capacity(slots=8, ahead=2))
    for _ in range(5):
        bench.put("a")
    assert len(bench.began) == 2
    bench.put("b")
    assert bench.began[-1].flow.key == "b"
    bench.queue.token(bench.began[0])
    assert len(bench.began) == 3  # there are two without a token still
    bench.queue.token(bench.began[1])
    assert len(bench.began) == 4
    bench.queue.end(bench.began[3])  # it ends without ever having got one
    assert len(bench.began) == 5


def test_higher_priorities_go_first() -> None:
    bench = Bench(Capacity(slots=1))
    bench.put("a", priority=-1)
    for _ in range(3):
        bench.put("a", priority=-1)
        bench.put("b")
    assert bench.order() == "abbbaaa"


def test_what_leaves_while_it_waits_makes_no_difference() -> None:
    bench = Bench(Capacity(slots=1))
    bench.put("a")
    gone = [bench.put("b") for _ in range(3)]
    bench.put("c")
    for turn in gone:
        bench.queue.end(turn)
        bench.queue.end(turn)
    assert bench.order() == "ac"
    assert (bench.queue.waiting, bench.queue.running) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 2), st.sampled_from([None, 1, 3]))
def test_every_request_is_begun_once_or_leaves_and_none_waits_beside_a_free_place(
    seed: int, slots: int, reserve: int, ahead: int | None
) -> None:
    draw, bench = random.Random(seed), Bench(Capacity(slots, min(reserve, slots - 1), ahead))
    there: list[Turn] = []
    for _ in range(80):
        what = draw.random()
        if what < 0.5 or not there:
            there.append(bench.put(draw.choice("abc"), draw.randint(1, 50), priority=draw.choice([0, 0, 1])))
        elif what < 0.8:
            turn = draw.choice(there)
            if turn.handed_at is not None:
                bench.queue.token(turn)
        else:
            bench.queue.end(there.pop(draw.randrange(len(there))))
        assert bench.queue.running <= slots
        assert bench.queue.running + bench.queue.waiting == len(there)
    for turn in list(there):
        bench.queue.end(turn)
    assert len(bench.began) == len(set(bench.began))
    assert (bench.queue.running, bench.queue.waiting) == (0, 0)


def test_threads_lose_no_request() -> None:
    queue, served = FairQueue(Capacity(slots=3, reserve=1, ahead=2)), []
    done = threading.Semaphore(0)

    def ask(key: str) -> None:
        for _ in range(200):
            begun = threading.Event()
            turn = queue.put(Flow(key), 5, lambda _, begun=begun: begun.set())  # type: ignore[misc]
            assert begun.wait(10)
            queue.token(turn)
            queue.end(turn)
            served.append(key)
        done.release()

    for key in "abcd":
        threading.Thread(target=ask, args=(key,), daemon=True).start()
    for _ in "abcd":
        assert done.acquire(timeout=30)
    assert Counter(served) == dict.fromkeys("abcd", 200)
