"""McNemar's test and Newcombe's interval against scipy, published numbers and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binomtest

from tunery.statistics.mcnemar import McNemar, mcnemar_exact, newcombe_interval


def lists(both: int, fixed: int, broken: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * both + [False] * fixed + [True] * broken + [False] * neither
    b = [True] * both + [True] * fixed + [False] * broken + [False] * neither
    return a, b


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=300))
def test_mcnemar_equals_a_binomial_test_on_the_disagreements(pairs: list[tuple[bool, bool]]) -> None:
    result = mcnemar_exact([a for a, _ in pairs], [b for _, b in pairs])
    fixed = sum(b and not a for a, b in pairs)
    broken = sum(a and not b for a, b in pairs)
    expected = binomtest(fixed, fixed + broken, 0.5).pvalue if fixed + broken else 1.0
    assert (result.fixed, result.broken) == (fixed, broken)
    assert result.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_gives_the_published_p_value() -> None:
    # Fagerland, Lydersen & Laake (2017), Statistical Analysis of Contingency Tables, table 8.3 (Cavo 2012).
    assert mcnemar_exact(*lists(59, 6, 16, 80)).p_value == pytest.approx(0.052479, abs=5e-7)


def test_mcnemar_of_models_that_never_disagree_is_one() -> None:
    assert mcnemar_exact([True, False], [True, False]) == McNemar(0, 0, 1.0)
    assert mcnemar_exact([], []) == McNemar(0, 0, 1.0)


def test_mcnemar_stays_exact_where_floats_would_give_up() -> None:
    assert mcnemar_exact([False] * 1000, [True] * 1000).p_value == 2.0**-999
    assert mcnemar_exact([False] * 40_000, [True] * 40_000).p_value == 0.0


def test_mcnemar_refuses_lists_that_are_not_paired() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mcnemar_exact([True, False], [True])


def test_newcombe_gives_the_published_interval() -> None:
    # Same table; published for A minus B as -0.0621 (-0.1186 to -0.0046), where B has 75 of 161 right.
    low, high = newcombe_interval(59, 16, 6, 80)
    assert (low, high) == pytest.approx((0.0046, 0.1186), abs=5e-5)


counts = st.tuples(*[st.integers(0, 200)] * 4).filter(any)


@given(counts)
def test_newcombe_holds_the_difference_and_turns_with_the_sides(cells: tuple[int, int, int, int]) -> None:
    both, fixed, broken, neither = cells
    low, high = newcombe_interval(both, fixed, broken, neither)
    difference = (fixed - broken) / sum(cells)
    assert -1 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1
    turned = newcombe_interval(both, broken, fixed, neither)
    assert turned == pytest.approx((-high, -low), abs=1e-12)


def tango(both: int, fixed: int, broken: int, neither: int) -> tuple[float, float]:
    """Tango (1998) score interval, by inverting the score test numerically: another method, same target."""
    n = both + fixed + broken + neither

    def score(delta: float) -> float:
        a, b = 2 * n, -fixed - broken + (2 * n - fixed + broken) * delta
        c = -broken * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = n * (2 * q + delta * (1 - delta))
        return (fixed - broken - n * delta) / math.sqrt(max(variance, 1e-12))

    found = (fixed - broken) / n
    low = brentq(lambda d: score(d) - 1.959964, -1 + 1e-9, found)
    return low, brentq(lambda d: score(d) + 1.959964, found, 1 - 1e-9)


def test_our_second_opinion_gives_its_own_published_interval() -> None:
    assert tango(59, 16, 6, 80) == pytest.approx((0.0054, 0.1240), abs=5e-5)


@pytest.mark.parametrize("cells", [(60, 25, 5, 10), (600, 90, 60, 20), (300, 300, 20, 150)])
def test_newcombe_agrees_with_tangos_score_interval(cells: tuple[int, int, int, int]) -> None:
    assert newcombe_interval(*cells) == pytest.approx(tango(*cells), abs=0.01)


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.1, 0.1), (0.85, 0.08, 0.02, 0.05), (0.05, 0.5, 0.05, 0.4)])
def test_newcombe_covers_the_truth_about_as_often_as_it_says(shares: tuple[float, ...]) -> None:
    truth = shares[1] - shares[2]
    draws = np.random.default_rng(0).multinomial(100, shares, size=2000)
    covered = np.mean(
        [low <= truth <= high for low, high in (newcombe_interval(*map(int, d)) for d in draws)]
    )
    assert 0.93 <= covered <= 0.985


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no proportion"):
        newcombe_interval(0, 0, 0, 0)
