"""How long the fair queue lets a key wait, beside an engine of its own that has its share of the rate.

A key's *share* is its weight by the weights of all keys that ever ask, and its *fair share of the time* is
how long a request would stay in an engine of the key's own of that rate, behind the key's earlier requests.

Words, for costs in units of work [prompt tokens + 2 x completion tokens]; places do one a second each:

* ``stay``: from a request's arrival to its last token in the queue; ``fair``: the same in its own engine.
* ``largest``: the largest cost of any request; ``by_weight``: the largest cost divided by its key's weight.
* ``round``: the time in which every key gets ``by_weight`` times its weight, that is ``by_weight *
  sum(weights) / places``: the fair share of the largest request by weight.

What holds, whatever arrives:

1. One place: ``stay <= fair + round``.
2. One place, requests alike by weight: ``fair >= round``, so ``stay <= 2 * fair``.
3. Several places: ``stay <= fair + round + 2 * largest``. Requests that run are not stopped, one runs in one
   place only, and what an answer costs is known when it is there. Places that are kept for keys without any
   running are not counted in the keys' own engines.

It is not so beside a fluid engine that divides what is there at each moment (max-min fair): who comes begins
where the others are in the queue, not where they would be in the fluid, and a key can lose a round each time.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tunery.traffic.fair_queue import Capacity, FairQueue, Flow, Turn

_EXACT = 1e-6
"""Rounding [s]."""


class Ask(NamedTuple):
    """One request."""

    at: float
    """Its arrival [s]."""
    key: str
    prompt: int
    completion: int

    @property
    def cost(self) -> int:
        return self.prompt + 2 * self.completion


class Case(NamedTuple):
    asks: Sequence[Ask]
    """By arrival."""
    weights: Mapping[str, float]
    capacity: Capacity

    @property
    def places(self) -> int:
        """Those that any key may have."""
        return self.capacity.slots - self.capacity.reserve


def queued(case: Case) -> list[float]:
    """Return when each request ends behind the fair queue, by a clock that jumps from event to event [s]."""
    queue, now = FairQueue(case.capacity), 0.0
    ends = [0.0] * len(case.asks)
    events: list[tuple[float, int, int, Turn | None]]
    events = [(ask.at, 1, number, None) for number, ask in enumerate(case.asks)]
    heapq.heapify(events)

    def computes(number: int) -> object:
        ask = case.asks[number]

        def begin(turn: Turn) -> None:
            heapq.heappush(events, (now + ask.prompt + 2 * bool(ask.completion), 0, number, turn))

        return begin

    while events:
        now, _, number, turn = heapq.heappop(events)
        ask = case.asks[number]
        if turn is None:
            queue.put(Flow(ask.key, case.weights[ask.key]), ask.prompt, computes(number))  # type: ignore[arg-type]
            continue
        if ask.completion:
            queue.token(turn)
        if turn.tokens < ask.completion:
            heapq.heappush(events, (now + 2, 0, number, turn))
        else:
            ends[number] = now
            queue.end(turn)
    assert (queue.waiting, queue.running) == (0, 0)
    return ends


def shares(there: Mapping[str, int], weights: Mapping[str, float], places: float) -> dict[str, float]:
    """Divide places among keys by weight, none above the number of its requests (water-filling)."""
    left, found = dict(there), {}
    while left:
        total = sum(weights[key] for key in left)
        key = min(left, key=lambda key: left[key] / weights[key])
        if left[key] * total > places * weights[key]:
            return found | {key: places * weights[key] / total for key in left}
        found[key] = float(left.pop(key))
        places -= found[key]
    return found


def fluid(case: Case) -> list[float]:
    """Return when each request ends in the fluid engine; a key's requests are served in turn [s]."""
    ends, now, coming = [0.0] * len(case.asks), 0.0, 0
    left: dict[int, float] = {}
    while left or coming < len(case.asks):
        mine: dict[str, list[int]] = defaultdict(list)
        for number in left:
            mine[case.asks[number].key].append(number)
        rates: dict[int, float] = {}
        for key, share in shares({k: len(v) for k, v in mine.items()}, case.weights, case.places).items():
            for number in mine[key]:
                rates[number] = min(1.0, share)
                share -= rates[number]
        steps = [left[number] / rate for number, rate in rates.items() if rate > 1e-12]
        if coming < len(case.asks):
            steps.append(case.asks[coming].at - now)
        step = min(steps)
        now += step
        for number, rate in rates.items():
            left[number] -= rate * step
            if left[number] < 1e-9:
                del left[number]
                ends[number] = now
        while coming < len(case.asks) and case.asks[coming].at <= now + 1e-9:
            left[coming] = float(case.asks[coming].cost)
            coming += 1
    return ends


def own(case: Case) -> list[float]:
    """Return when each request ends in an engine of its key's own [s]."""
    total, free, ends = sum(case.weights[key] for key in {ask.key for ask in case.asks}), {}, []
    for ask in case.asks:
        rate = case.weights[ask.key] / total * case.places
        free[ask.key] = max(ask.at, free.get(ask.key, 0.0)) + ask.cost / rate
        ends.append(free[ask.key])
    return ends


def stays(case: Case) -> list[tuple[float, float]]:
    """Return how long each request stayed in the queue and in its key's own engine [s]."""
    pairs = zip(case.asks, queued(case), own(case), strict=True)
    return [(end - ask.at, fair - ask.at) for ask, end, fair in pairs]


def round_s(case: Case) -> float:
    """Return the time in which every key gets as much by weight as the largest request."""
    by_weight = max(ask.cost / case.weights[ask.key] for ask in case.asks)
    return by_weight * sum(case.weights[key] for key in {ask.key for ask in case.asks}) / case.places


_WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])
_PAUSES = st.sampled_from([0.0, 0.0, 0.0, 1.5, 7.25, 31.0, 90.0])
_PLACES = st.sampled_from([Capacity(n, r) for n, r in ((2, 0), (3, 0), (4, 0), (8, 0), (4, 1), (8, 2))])


@st.composite
def cases(draw: st.DrawFn, capacity: st.SearchStrategy[Capacity], *, alike: bool = False) -> Case:
    """Draw arrivals of up to five keys, some of small requests; alike, all cost the same by weight."""
    weights = {key: draw(_WEIGHTS) for key in "abcde"[: draw(st.integers(2, 5))]}
    longest = {key: draw(st.sampled_from([1, 4, 60])) for key in weights}
    at, asks = 0.0, []
    for _ in range(draw(st.integers(2, 30))):
        at += draw(_PAUSES)
        key = draw(st.sampled_from([*weights]))
        prompt = draw(st.integers(1, longest[key]))
        completion = draw(st.sampled_from([0, longest[key] // 4, longest[key] // 2]))
        if alike:
            cost = int(40 * weights[key])
            completion = min(completion, (cost - 1) // 2)
            prompt = cost - 2 * completion
        asks += [Ask(at, key, prompt, completion)] * draw(st.sampled_from([1, 1, 1, 6]))
    return Case(asks, weights, draw(capacity))


@settings(max_examples=100, deadline=None)
@given(st.booleans().flatmap(lambda alike: cases(st.just(Capacity(1)), alike=alike)))
def test_one_place_costs_no_more_than_a_round_beside_the_fair_share(case: Case) -> None:
    bound = round_s(case)
    for stay, fair in stays(case):
        assert stay <= fair + bound + _EXACT


@settings(max_examples=100, deadline=None)
@given(cases(st.just(Capacity(1)), alike=True))
def test_requests_alike_wait_no_longer_than_twice_their_fair_share(case: Case) -> None:
    for stay, fair in stays(case):
        assert stay <= 2 * fair + _EXACT


@settings(max_examples=100, deadline=None)
@given(st.booleans().flatmap(lambda alike: cases(_PLACES, alike=alike)))
def test_several_places_cost_two_of_the_longest_more(case: Case) -> None:
    bound = round_s(case) + 2 * max(ask.cost for ask in case.asks)
    for stay, fair in stays(case):
        assert stay <= fair + bound + _EXACT


def test_a_key_pays_nothing_later_for_places_that_stood_empty() -> None:
    """One key is never without a request; the other's many ran beside it, and took nothing from anybody."""
    beside = [Ask(20.0 * n, "b", 10, 5) for n in range(100)]
    at = beside[-1].at + 1
    crowd = [Ask(at, "a", 10, 5) for _ in range(60)] + [Ask(at + 1, "b", 10, 5)]
    case = Case([Ask(0.0, "a", 3_000, 0), *beside, *crowd], {"a": 1.0, "b": 1.0}, Capacity(3))
    stay, fair = queued(case)[-1] - case.asks[-1].at, fluid(case)[-1] - case.asks[-1].at
    assert stay <= fair + 20  # what runs in the two other places ends meanwhile; it was 600 s


def test_the_fluid_engine_is_right_where_a_closed_form_is() -> None:
    asks = [Ask(0.0, "a", 30, 0), Ask(0.0, "b", 10, 0), Ask(0.0, "b", 20, 0)]
    one = Case(asks, {"a": 3.0, "b": 1.0}, Capacity(1))
    assert fluid(one) == [40.0, 40.0, 60.0]
    assert fluid(one._replace(capacity=Capacity(2))) == [30.0, 10.0, 30.0]
    divided = shares({"a": 1, "b": 9, "c": 9}, {"a": 9.0, "b": 1.0, "c": 2.0}, 4)
    assert divided == {"a": 1.0, "b": 1.0, "c": 2.0}
