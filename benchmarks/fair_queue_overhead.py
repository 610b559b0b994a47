"""What the fair queue costs a request, beside a queue that is first come, first served.

    python benchmarks/fair_queue_overhead.py [--requests 6000] [--rounds 3]

A request is put, gets its first token and ends, which hands the next one over; 32 places, four of them kept
for keys without any running, and a crowd of 1 to 1,000 keys waiting all the time. The peer is a deque under a
lock. Processor time of the one thread, median of the rounds and their range [µs a request], and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable

from tunery.traffic.fair_queue import Capacity, FairQueue, Flow, Turn

PLACES, KEPT = 32, 4
WAITING = 400
"""Requests that wait all the time at least [count]."""
KEYS = (1, 4, 32, 100, 1_000)


def fair(keys: int, requests: int) -> float:
    """Return processor time a request with a crowd of keys [s]."""
    queue, began = FairQueue(Capacity(PLACES, KEPT)), deque[Turn]()
    names = [f"key-{number}" for number in range(keys)]
    for number in range(max(WAITING, 2 * keys) + PLACES):
        queue.put(Flow(names[number % keys]), 100, began.append)
    before = time.thread_time()
    for number in range(requests):
        turn = began.popleft()
        queue.token(turn)
        queue.end(turn)
        queue.put(Flow(names[number % keys]), 100, began.append)
    return (time.thread_time() - before) / requests


def plain(requests: int) -> float:
    """Return processor time a request, first come, first served [s]."""
    waiting, lock, began = deque[Turn](), threading.Lock(), deque[Turn]()
    for _ in range(WAITING):
        waiting.append(Turn(Flow("key"), 100, began.append))
    for _ in range(PLACES):
        began.append(waiting.popleft())

    def hand_over() -> None:
        with lock:
            turn = waiting.popleft()
        turn.begin(turn)

    before = time.thread_time()
    for _ in range(requests):
        turn = began.popleft()
        turn.tokens += 1
        hand_over()
        with lock:
            waiting.append(Turn(Flow("key"), 100, began.append))
    return (time.thread_time() - before) / requests


def spread(rounds: int, measure: Callable[[], float]) -> tuple[float, str]:
    """Return a median [s], and it and its range as text [µs]."""
    values = sorted(measure() for _ in range(rounds))
    middle = statistics.median(values)
    return middle, f"{middle * 1e6:6.1f} ({values[0] * 1e6:.1f} to {values[-1] * 1e6:.1f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    peer, text = spread(given.rounds, lambda: plain(given.requests))
    print(f"first come, first served   {text}")
    for keys in KEYS:
        cost, text = spread(given.rounds, lambda keys=keys: fair(keys, given.requests))  # type: ignore[misc]
        print(f"fair, {keys:5,} keys waiting   {text}   {cost / peer:4.1f} x")


if __name__ == "__main__":
    main()
