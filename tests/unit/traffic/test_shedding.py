"""Who gives way where there are too many, and when those who were refused come again."""

from __future__ import annotations

from collections import Counter

from tunery.traffic.fair_queue import Flow
from tunery.traffic.shedding import Pace, to_shed


def test_lower_priorities_give_way_first_and_never_for_lower_ones() -> None:
    waiting = [Flow("a", priority=1), Flow("b", priority=-1), Flow("c", priority=-1)]
    assert to_shed(waiting, [], Flow("d")) == 2
    assert to_shed(waiting, [], Flow("d", priority=-2)) is None
    assert to_shed([Flow("a", priority=1)], [], Flow("d")) is None


def test_a_key_that_fills_the_queue_gives_way_to_others_until_they_have_their_share() -> None:
    waiting = [Flow("a")] * 9
    for _ in range(20):
        gone = to_shed(waiting, [Flow("a")] * 3, Flow("b"))
        if gone is None:
            break
        del waiting[gone]
        waiting.append(Flow("b"))
    assert Counter(flow.key for flow in waiting) == {"a": 3, "b": 6}  # three of a run: six each
    assert to_shed(waiting, [Flow("a")] * 3, Flow("a")) is None


def test_weights_move_the_share() -> None:
    waiting = [Flow("a", weight=3.0)] * 6 + [Flow("b")] * 2
    assert to_shed(waiting, [], Flow("b")) is None
    assert to_shed([Flow("a")] * 6 + [Flow("b", weight=3.0)] * 2, [], Flow("b", weight=3.0)) == 5


def test_what_runs_is_never_taken_back() -> None:
    assert to_shed([], [Flow("a")] * 12, Flow("b", priority=9)) is None


def test_each_that_is_refused_is_promised_a_place_of_its_own_at_the_pace_of_the_ends() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for _ in range(200):
        now[0] += 0.5
        pace.end(busy=True)
    promised = [pace.promise() for _ in range(4)]
    assert [round(p, 1) for p in promised] == [0.5, 1.0, 1.5, 2.0]
    now[0] += 10
    assert round(pace.promise(), 1) == 0.5
    assert max(pace.promise() for _ in range(1000)) <= 120
