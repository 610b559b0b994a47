"""Intervals that several packages rely on, held against scipy and a closed form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from tunery.core.statistics import normal_quantile, wilson_interval


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(counts: tuple[int, int]) -> None:
    successes, n = counts
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_with_another_confidence_equals_scipy() -> None:
    expected = binomtest(7, 50).proportion_ci(0.8, method="wilson")
    assert wilson_interval(7, 50, confidence=0.8) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_all_right_is_n_over_n_plus_z_squared() -> None:
    low, high = wilson_interval(40, 40)
    assert low == pytest.approx(40 / (40 + normal_quantile(0.95) ** 2))
    assert high == 1.0


@given(st.floats(0, 1), st.integers(1, 500))
def test_wilson_of_scores_between_zero_and_one_contains_their_mean(mean: float, n: int) -> None:
    low, high = wilson_interval(mean * n, n)
    assert 0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    for n, p in ((30, 0.1), (100, 0.5), (770, 0.87)):
        covered = 0.0
        for successes in range(n + 1):
            low, high = wilson_interval(successes, n)
            covered += float(binom.pmf(successes, n, p)) * (low <= p <= high)
        assert 0.93 <= covered <= 0.98, (n, p, covered)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_counts_that_are_no_proportion_are_refused(successes: float, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(successes, n)


def test_confidence_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence=1.0)
