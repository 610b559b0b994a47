"""Pairs judged in both orders over a real socket, win rates, and their correction by people's labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.evaluate.judges.scripted import pair_judge, settings
from tests.unit.synthesise.teacher import Teacher
from tunery.core.example import Message
from tunery.evaluate.judges.judge import EndpointJudge
from tunery.review.pairwise import Pair, compare_by_judge, judge_pairs, label_of


def pair(number: int, a: int, b: int) -> Pair:
    """Return a pair whose answers are worth so many points."""
    turn = Message(role="user", content=f"question {number}")
    return Pair(f"p{number}", (turn,), "good " * a + f"A{number}", "good " * b + f"B{number}")


def judge_at(endpoint: Teacher, folder: Path, **changes: object) -> EndpointJudge:
    return EndpointJudge(settings(endpoint.url, **changes), folder, of="pairs")


def test_both_orders_are_asked_and_a_fair_judge_is_consistent(endpoint: Teacher, tmp_path: Path) -> None:
    endpoint.say = pair_judge()
    rows = [pair(0, 1, 4), pair(1, 4, 1), pair(2, 3, 3)]
    assert [v.winner for v in judge_pairs(judge_at(endpoint, tmp_path), rows)] == ["b", "a", "tie"]
    assert len(endpoint.bodies) == 6


def test_a_judge_that_prefers_the_first_contradicts_itself_and_prefers_neither(
    endpoint: Teacher, tmp_path: Path
) -> None:
    endpoint.say = pair_judge(first_bias=1.5)
    rows = [pair(0, 1, 4), pair(1, 3, 3), pair(2, 2, 3), pair(3, 5, 1)]
    found = compare_by_judge(judge_at(endpoint, tmp_path), rows, ("one", "other"))
    assert (found.wins_a, found.wins_b, found.ties, found.errors) == (1, 1, 2, 0)
    assert found.position_bias.value == 0.5
    assert found.prefers_first == 1.0
    assert found.win_rate.value == 0.5
    assert found.verdict == "no difference shown"


def test_errors_are_counted_and_win_nothing(endpoint: Teacher, tmp_path: Path) -> None:
    endpoint.say = pair_judge()
    endpoint.faults = [500, 500]
    judge = judge_at(endpoint, tmp_path, concurrency=1)
    found = compare_by_judge(judge, [pair(i, 1, 4) for i in range(4)], ("one", "other"))
    assert (found.n, found.wins_b, found.errors) == (4, 3, 1)
    assert found.win_rate.value == pytest.approx(3.5 / 4)


def test_the_win_rate_is_corrected_by_labels_of_some_of_the_same_pairs(
    endpoint: Teacher, tmp_path: Path
) -> None:
    endpoint.say = pair_judge()
    # The judge counts B's words; people find half of what it prefers no better.
    rows = [pair(i, 2, 4 if i % 5 else 1) for i in range(80)]
    labels = {}
    for i, row in enumerate(rows[:40]):
        likes_b = i % 5 and i % 2
        key, said = label_of(row, "b" if likes_b else "a")
        labels[key] = said
    found = compare_by_judge(judge_at(endpoint, tmp_path), rows, ("one", "other"), labels=labels)
    assert found.win_rate.ci95[0] > 0.6
    assert found.corrected is not None
    assert found.corrected.labelled == 40
    low, high = found.corrected.ci95
    assert low < 0.4 < high < 0.6
    assert high - low <= found.corrected.labels_ci95[1] - found.corrected.labels_ci95[0]
    assert found.metric.value == found.corrected.value


def test_a_label_is_found_whichever_answer_is_called_a(endpoint: Teacher, tmp_path: Path) -> None:
    endpoint.say = pair_judge()
    rows = [pair(i, 1, 4) for i in range(6)]
    turned = [row._replace(a=row.b, b=row.a) for row in rows]
    labels = dict(label_of(row, "a" if i < 4 else "b") for i, row in enumerate(rows))
    one, other = (
        compare_by_judge(judge_at(endpoint, tmp_path), some, ("x", "y"), labels=labels)
        for some in (rows, turned)
    )
    assert one.corrected is not None
    assert other.corrected is not None
    assert one.corrected.labels_alone == pytest.approx(2 / 6)
    assert other.corrected.labels_alone == pytest.approx(4 / 6)
