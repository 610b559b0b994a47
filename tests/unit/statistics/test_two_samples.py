"""Shares of two samples, beside a published interval and scipy's own test."""

import pytest
from scipy.stats import fisher_exact

from tunery.statistics.two_samples import compare_shares


def test_the_interval_is_the_published_one() -> None:
    # Newcombe (1998), table II, method 10, contrast (a): 56/70 against 48/80.
    found = compare_shares((48, 80), (56, 70))
    assert found.difference == pytest.approx(0.2)
    assert found.ci95 == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_test_is_fishers() -> None:
    assert compare_shares((1, 20), (9, 22)).p_value == fisher_exact([[1, 19], [9, 13]]).pvalue
    assert compare_shares((3, 20), (3, 20)).p_value == pytest.approx(1)


def test_samples_without_hits_still_have_a_width() -> None:
    low, high = compare_shares((0, 50), (0, 50)).ci95
    assert low < 0 < high
