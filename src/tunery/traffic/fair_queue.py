"""Whose request an engine gets next: as many tokens for each key as its weight, whoever sends how much.

Virtual token counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, algorithm 2): a
key's counter rises by the tokens it was served, divided by its weight, and the waiting key with the lowest
counter is next. A key begins to wait where the others are, so that nobody saves up turns, and nobody pays
later for places that stood empty. `tests/unit/traffic/test_fair_share.py` says what a key waits at most.

Requests that run are not stopped for others. So that a key without any need not wait until one of the others'
ends, a few of the engine's places are kept for such keys. And an engine's own queue, which is first come,
first served, is held short: requests are handed over only as it takes them up.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_COUNTERS = 4096
"""Keys whose counters are kept [count]."""
_LEFT = 64
"""Places in a line whose keys left before their turn, at most, beside as many as wait [count]."""


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


class _Place(NamedTuple):
    """A waiting key's place in line."""

    counter: float
    is_ahead: bool
    """Not lifted; those who were, to the lowest counter, go before the one who has it."""
    number: int
    key: str


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
        self._order: dict[int, list[_Place]] = {}
        self._numbers = itertools.count()
        self._running: dict[str, set[Turn]] = {}
        self._in_hand = 0
        self._served: dict[str, float] = {}
        """Weighted tokens of requests that ended, and prompts of those that run, by key."""
        self._last: Turn | None = None
        self._floor = 0.0
        """Counter of the key that had the last turn, before it."""
        self._highest = 0.0
        """Of the counters of requests that ended."""
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
            return self._in_hand

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
            ahead = self._lift(flow.key)
            keys = self._waiting.setdefault(flow.priority, {})
            if flow.key not in keys:
                keys[flow.key] = deque()
                self._line_up(flow.key, flow.priority, self._counter(flow.key), ahead=ahead)
            keys[flow.key].append(turn)
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
            free = self.capacity.slots - self._in_hand
            if free <= 0:
                return None
            ahead = self.capacity.ahead
            # The places kept are for keys that have nothing there, and so is the way past a full antechamber.
            only_new = free <= self.capacity.reserve or (ahead is not None and self._without_token >= ahead)
            for priority in sorted(self._waiting, reverse=True):
                if only_new and self._waiting[priority].keys() <= self._running.keys():
                    continue
                if (place := self._first(priority, only_new=only_new)) is not None:
                    return self._take(place, priority)
            return None

    def _first(self, priority: int, *, only_new: bool) -> _Place | None:
        """Take the place of the key whose turn it is out of the line; None where none may have one."""
        passed: list[_Place] = []
        while (place := self._head(priority)) is not None:
            heapq.heappop(self._order[priority])
            if not only_new or place.key not in self._running:
                break
            passed.append(place)
        for other in passed:
            heapq.heappush(self._order[priority], other)
        return place

    def _head(self, priority: int) -> _Place | None:
        """Return the place of the waiting key with the lowest counter, the longest in line of equals.

        A line is a heap by counters as they were when keys lined up or came to its head. They only rise, so
        one that is up to date there is the lowest of all.
        """
        order, keys = self._order[priority], self._waiting.get(priority, {})
        while order:
            place = order[0]
            if place.key not in keys:
                heapq.heappop(order)
            elif (counter := self._counter(place.key)) > place.counter:
                heapq.heapreplace(order, place._replace(counter=counter))
            else:
                return place
        return None

    def _line_up(self, key: str, priority: int, counter: float, *, ahead: bool) -> None:
        order = self._order.setdefault(priority, [])
        heapq.heappush(order, _Place(counter, ahead, next(self._numbers), key))

    def _take(self, place: _Place, priority: int) -> Turn:
        key = place.key
        turn = self._waiting[priority][key].popleft()
        self._last, self._floor = turn, place.counter
        turn.handed_at = time.monotonic()
        self._served[key] += turn.prompt_tokens / turn.flow.weight
        self._running.setdefault(key, set()).add(turn)
        self._in_hand += 1
        self._without_token += 1
        if self._waiting[priority][key]:
            counter = place.counter + turn.prompt_tokens / turn.flow.weight
            self._line_up(key, priority, counter, ahead=True)
        else:
            self._leave(key, priority)
        return turn

    def _counter(self, key: str) -> float:
        """Return a key's counter; tokens of requests that run count as they come."""
        running = sum(turn.tokens / turn.flow.weight for turn in self._running.get(key, ()))
        return self._served.get(key, 0.0) + self._completion_weight * running

    def _reached(self) -> float:
        """Return where the last turn is: the counter before it, and what was computed of it so far."""
        turn = self._last
        if turn is None or not (turn.has_token or turn.over):
            return self._floor
        cost = turn.prompt_tokens + self._completion_weight * turn.tokens
        return self._floor + cost / turn.flow.weight

    def _lift(self, key: str) -> bool:
        """Have a key that begins to wait begin where the others are, or say that it is ahead.

        That is so while requests of its run, too: what others had meanwhile they took from nobody who waited.
        The lock is held.
        """
        if any(key in keys for keys in self._waiting.values()):
            return True
        heads = [place.counter for priority in self._waiting if (place := self._head(priority)) is not None]
        if len(self._served) >= _COUNTERS:
            kept = {k for keys in self._waiting.values() for k in keys} | set(self._running)
            self._served = {k: counter for k, counter in self._served.items() if k in kept}
        behind = min([self._reached(), *heads]) - self._counter(key)
        self._served[key] = self._served.get(key, 0.0) + max(0.0, behind)
        return behind < 0

    def _drop_waiting(self, turn: Turn) -> None:
        key, priority = turn.flow.key, turn.flow.priority
        self._waiting[priority][key].remove(turn)
        if not self._waiting[priority][key]:
            self._leave(key, priority)

    def _leave(self, key: str, priority: int) -> None:
        """Have a key of which nothing waits wait no more."""
        keys, order = self._waiting[priority], self._order[priority]
        del keys[key]
        if not keys:
            del self._waiting[priority], self._order[priority]
        elif len(order) > 2 * len(keys) + _LEFT:  # who left before its turn is in it still
            self._order[priority] = [place for place in order if place.key in keys]
            heapq.heapify(self._order[priority])

    def _drop_running(self, turn: Turn) -> None:
        key = turn.flow.key
        self._running[key].discard(turn)
        if not self._running[key]:
            del self._running[key]
        self._in_hand -= 1
        if not turn.has_token:
            self._without_token -= 1
        self._served[key] += self._completion_weight * turn.tokens / turn.flow.weight
        self._highest = max(self._highest, self._served[key])
        if not self._in_hand and not self._waiting:
            self._last, self._floor = None, self._highest  # nobody has a claim any more
