"""Whose request an engine gets next: as many tokens for each key as its weight, whoever sends how much.

Virtual token counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2): a
key's counter rises by the tokens it was served, divided by its weight, and the waiting key with the lowest
counter is next. A key that comes back from a pause begins where the others are, so that nobody saves up
turns.

Requests that run are not stopped for others. So that a key without any need not wait until one of the others'
ends, a few of the engine's places are kept for such keys. And an engine's own queue, which is first come,
first served, is held short: requests are handed over only as it takes them up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_COUNTERS = 4096
"""Keys whose counters are kept [count]."""


class Flow(NamedTuple):
    """Whose request it is."""

    key: str
    """All requests of one share a counter."""
    weight: float = 1.0
    """Its part of the tokens, beside the others' [above 0]."""
    priority: int = 0
    """Higher ones are served first, whatever the counters."""


class Capacity(NamedTuple):
    """What an engine takes at a time."""

    slots: int
    """Requests handed over at once [count]."""
    reserve: int = 0
    """Of these, kept for keys that have none running [count]."""
    ahead: int | None = None
    """Requests handed over that have no token yet at most [count]; None for no bound of its own."""


class Turn:
    """One request's place in the queue, from :meth:`FairQueue.put` until it is done or has left."""

    __slots__ = ("begin", "flow", "handed_at", "has_token", "over", "prompt_tokens", "tokens")

    def __init__(self, flow: Flow, prompt_tokens: int, begin: Callable[[Turn], None]) -> None:
        self.flow = flow
        self.prompt_tokens = prompt_tokens
        self.begin = begin
        self.tokens = 0
        """Completion tokens so far [count]."""
        self.handed_at: float | None = None
        """When the engine got it, by ``time.monotonic`` [s]; None while it waits."""
        self.has_token = False
        self.over = False


class FairQueue:
    """Requests that wait for one engine; may be used from any thread.

    Args:
        capacity: What the engine takes at a time.
        completion_weight: What a completion token costs beside one of a prompt, which is computed together
            with others of its kind.
    """

    def __init__(self, capacity: Capacity, *, completion_weight: float = 2.0) -> None:
        self.capacity = capacity
        self._completion_weight = completion_weight
        self._lock = threading.Lock()
        self._waiting: dict[int, dict[str, deque[Turn]]] = {}
        self._running: dict[str, set[Turn]] = {}
        self._served: dict[str, float] = {}
        """Weighted tokens of requests that ended, and prompts of those that run, by key."""
        self._floor = 0.0
        self._without_token = 0

    @property
    def waiting(self) -> int:
        """Requests that the engine does not have yet [count]."""
        with self._lock:
            return sum(len(turns) for keys in self._waiting.values() for turns in keys.values())

    @property
    def running(self) -> int:
        """Requests that the engine has [count]."""
        with self._lock:
            return self._in_hand()

    def put(self, flow: Flow, prompt_tokens: int, begin: Callable[[Turn], None]) -> Turn:
        """Queue a request.

        Args:
            flow: Whose it is.
            prompt_tokens: Tokens of its prompt [count].
            begin: Hands it to the engine; called once, without a lock, in the thread that made room for it.
                It must not block.
        """
        turn = Turn(flow, prompt_tokens, begin)
        with self._lock:
            self._lift(flow.key)
            self._waiting.setdefault(flow.priority, {}).setdefault(flow.key, deque()).append(turn)
        self._hand_over()
        return turn

    def token(self, turn: Turn) -> None:
        """Count a completion token; the first one tells that the engine has taken the request up."""
        turn.tokens += 1
        if not turn.has_token:
            self._take_up(turn)

    def end(self, turn: Turn) -> None:
        """Take a request out, be it done or given up, waiting or running; the second time, do nothing."""
        with self._lock:
            if turn.over:
                return
            turn.over = True
            if turn.handed_at is None:
                self._drop_waiting(turn)
            else:
                self._drop_running(turn)
        self._hand_over()

    def _take_up(self, turn: Turn) -> None:
        with self._lock:
            if turn.has_token or turn.over:
                return
            turn.has_token = True
            self._without_token -= 1
        self._hand_over()

    def _hand_over(self) -> None:
        while (turn := self._next()) is not None:
            turn.begin(turn)

    def _next(self) -> Turn | None:
        """Take the request whose turn it is out of those that wait; None where none may go now."""
        with self._lock:
            free = self.capacity.slots - self._in_hand()
            if free <= 0:
                return None
            ahead = self.capacity.ahead
            # The places kept are for keys that have nothing there, and so is the way past a full antechamber.
            only_new = free <= self.capacity.reserve or (ahead is not None and self._without_token >= ahead)
            for priority in sorted(self._waiting, reverse=True):
                keys = self._waiting[priority]
                ready = [key for key in keys if not (only_new and self._running.get(key))]
                if ready:
                    return self._take(keys, min(ready, key=self._counter), priority)
            return None

    def _take(self, keys: dict[str, deque[Turn]], key: str, priority: int) -> Turn:
        turn = keys[key].popleft()
        if not keys[key]:
            del keys[key]
        if not keys:
            del self._waiting[priority]
        turn.handed_at = time.monotonic()
        self._served[key] += turn.prompt_tokens / turn.flow.weight
        self._running.setdefault(key, set()).add(turn)
        self._without_token += 1
        return turn

    def _counter(self, key: str) -> float:
        """Return a key's counter; tokens of requests that run count as they come."""
        running = sum(turn.tokens / turn.flow.weight for turn in self._running.get(key, ()))
        return self._served.get(key, 0.0) + self._completion_weight * running

    def _lift(self, key: str) -> None:
        """Have a key that comes back from a pause begin where the others are; the lock is held."""
        waits = any(key in keys for keys in self._waiting.values())
        if waits or key in self._running:
            return
        others = {k for keys in self._waiting.values() for k in keys} | set(self._running)
        least = min(map(self._counter, others), default=self._floor)
        if len(self._served) >= _COUNTERS:
            self._served = {k: counter for k, counter in self._served.items() if k in others}
        self._served[key] = max(self._served.get(key, 0.0), least)

    def _drop_waiting(self, turn: Turn) -> None:
        keys = self._waiting[turn.flow.priority]
        keys[turn.flow.key].remove(turn)
        if not keys[turn.flow.key]:
            del keys[turn.flow.key]
        if not keys:
            del self._waiting[turn.flow.priority]

    def _drop_running(self, turn: Turn) -> None:
        key = turn.flow.key
        self._running[key].discard(turn)
        if not self._running[key]:
            del self._running[key]
        if not turn.has_token:
            self._without_token -= 1
        self._served[key] += self._completion_weight * turn.tokens / turn.flow.weight
        self._floor = max(self._floor, self._served[key])

    def _in_hand(self) -> int:
        return sum(len(turns) for turns in self._running.values())
