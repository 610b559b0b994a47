"""Sticky routing: a share that is exact in expectation, and nobody ever moved back."""

from __future__ import annotations

import timeit
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from tunery.core.rollout import Rollout
from tunery.deploy.routing import assign, position


def rollout(percent: float = 10.0, identity: str = "rollout-1", status: str = "running") -> Rollout:
    return Rollout(
        id=identity,
        name="bot",
        champion=1,
        challenger=2,
        traffic_percent=percent,
        rule={},
        status=status,
        actor="test",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@given(st.text(), st.floats(0, 100))
def test_a_subject_stays_with_its_arm(subject, percent):
    assert assign(rollout(percent), subject) == assign(rollout(percent), subject)


@given(st.text(), st.floats(0, 100), st.floats(0, 100))
def test_raising_the_percentage_never_moves_a_subject_back_to_the_champion(subject, one, other):
    less, more = sorted((one, other))
    if assign(rollout(less), subject) == "challenger":
        assert assign(rollout(more), subject) == "challenger"


@given(st.text())
def test_no_traffic_and_all_traffic_mean_nobody_and_everybody(subject):
    assert assign(rollout(0.0), subject) == "champion"
    assert assign(rollout(100.0), subject) == "challenger"


@given(st.text(), st.sampled_from(["promoted", "rolled_back", "cancelled"]))
def test_an_ended_rollout_assigns_nobody_to_its_challenger(subject, status):
    assert assign(rollout(100.0, status=status), subject) == "champion"


@pytest.mark.parametrize("percent", [1.0, 10.0, 37.5])
def test_the_share_of_subjects_is_the_percentage(percent):
    n = 20_000
    taken = sum(assign(rollout(percent), f"user-{i}") == "challenger" for i in range(n))
    assert binomtest(taken, n, percent / 100).pvalue > 0.001


def test_positions_are_spread_evenly_over_the_line():
    buckets = [0] * 64
    for i in range(20_000):
        buckets[position("rollout-1", str(i)) * 64 >> 64] += 1
    assert chisquare(buckets).pvalue > 0.001


def test_the_next_rollout_draws_its_subjects_afresh():
    n = 5_000
    first, second = rollout(20.0, "rollout-1"), rollout(20.0, "rollout-2")
    in_first = [s for s in map(str, range(n)) if assign(first, s) == "challenger"]
    again = sum(assign(second, s) == "challenger" for s in in_first)
    assert binomtest(again, len(in_first), 0.2).pvalue > 0.001


def test_an_assignment_costs_microseconds():
    one = rollout()
    seconds = min(timeit.repeat(lambda: assign(one, "user-77"), number=1000, repeat=5)) / 1000
    assert seconds < 50e-6
