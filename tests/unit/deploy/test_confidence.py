"""Confidence sequences: against brute force, a closed form, and simulated peeking at every request."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

from tunery.core.errors import ConfigError
from tunery.deploy.confidence import Counts, difference_interval, log_evidence, log_mixture_ratio


@st.composite
def counts(draw: st.DrawFn, largest: int = 400) -> Counts:
    n = draw(st.integers(0, largest))
    return Counts(draw(st.integers(0, n)), n)


def log_ratio(s, n, p):
    """The martingale's logarithm, written with scipy's functions and for arrays."""
    return betaln(s + 0.5, n - s + 0.5) - betaln(0.5, 0.5) - xlogy(s, p) - xlog1py(n - s, -p)


def rate_interval(c: Counts, alpha: float) -> tuple[float, float]:
    """The rates that one arm's martingale has not left, by the roots that Brent finds."""

    def excess(p: float) -> float:
        return float(log_ratio(c.events, c.n, p) + np.log(alpha))

    low = brentq(excess, 1e-300, c.rate, xtol=1e-13) if c.events else 0.0
    high = brentq(excess, c.rate, 1 - 1e-16, xtol=1e-13) if c.events < c.n else 1.0
    return low, high


@given(counts(), st.floats(0.001, 0.999))
def test_the_martingale_of_one_arm_is_that_of_scipys_functions(c, rate):
    assert log_mixture_ratio(c, rate) == pytest.approx(log_ratio(c.events, c.n, rate), abs=1e-8)


@given(counts(largest=60), counts(largest=60), st.floats(-0.95, 0.95))
def test_evidence_against_a_difference_is_the_smallest_on_a_fine_grid_of_rates(a, b, difference):
    p = np.linspace(max(0.0, -difference), min(1.0, 1.0 - difference), 20_001)
    grid = log_ratio(a.events, a.n, p) + log_ratio(b.events, b.n, np.clip(p + difference, 0, 1))
    exact = log_evidence(a, b, difference)
    assert exact <= np.min(grid) + 1e-9
    assert exact == pytest.approx(np.min(grid), abs=1e-3)


@given(counts(), counts())
def test_evidence_against_no_difference_is_least_at_the_pooled_rate(a, b):
    n, s = a.n + b.n, a.events + b.events
    pooled = s / n if n else 0.5
    expected = log_ratio(a.events, a.n, pooled) + log_ratio(b.events, b.n, pooled)
    assert log_evidence(a, b, 0.0) == pytest.approx(expected, abs=1e-8)


@given(counts(largest=100), counts(largest=100), st.floats(0.01, 0.2))
def test_a_difference_interval_holds_exactly_the_differences_with_little_evidence_against_them(a, b, alpha):
    low, high = difference_interval(a, b, alpha)
    for difference in np.linspace(-0.999, 0.999, 41):
        inside = log_evidence(a, b, float(difference)) < -np.log(alpha)
        assert (
            inside == (low < difference < high) or min(abs(difference - low), abs(difference - high)) < 1e-9
        )


@given(counts(largest=100), counts(largest=100))
def test_swapping_the_arms_mirrors_the_difference(a, b):
    there, back = difference_interval(a, b, 0.05), difference_interval(b, a, 0.05)
    assert there.low == pytest.approx(-back.high, abs=1e-9)
    assert there.high == pytest.approx(-back.low, abs=1e-9)


@settings(max_examples=25)
@given(st.integers(10, 80), st.integers(10, 200))
def test_one_more_error_of_the_challenger_never_makes_it_look_better(n, champion_n):
    champion = Counts(champion_n // 20, champion_n)
    lows = [difference_interval(champion, Counts(k, n), 0.05).low for k in range(0, n + 1, 5)]
    assert lows == sorted(lows)


def test_without_data_every_difference_is_possible():
    assert difference_interval(Counts(0, 0), Counts(0, 0), 0.05) == (-1.0, 1.0)


@pytest.mark.parametrize("rate", [0.005, 0.05, 0.5])
def test_peeking_at_every_request_leaves_the_true_rate_with_at_most_chance_alpha(rate):
    rng, alpha, paths, horizon = np.random.default_rng(7), 0.1, 4000, 1000
    lowest, highest = events_that_cover(rate, horizon, alpha)
    s = np.cumsum(rng.random((paths, horizon)) < rate, axis=1)
    ever_wrong = np.mean(((s < lowest) | (s > highest)).any(axis=1))
    assert ever_wrong <= alpha
    assert np.isclose(s[:, -1].mean(), rate * horizon, rtol=0.1)


def events_that_cover(rate: float, horizon: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """For every n the fewest and the most events whose interval holds the rate, found by walking both
    ends."""
    lowest, highest, low, high = [], [], 0, 0
    for n in range(1, horizon + 1):
        while low < rate * n and log_mixture_ratio(Counts(low, n), rate) >= -np.log(alpha):
            low += 1
        while high < n and (
            high + 1 <= rate * n or log_mixture_ratio(Counts(high + 1, n), rate) < -np.log(alpha)
        ):
            high += 1
        lowest.append(low)
        highest.append(high)
    return np.array(lowest), np.array(highest)


@pytest.mark.parametrize("rate", [0.02, 0.3])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_peeking_at_every_request_finds_a_difference_that_is_not_there_with_at_most_chance_alpha(rate, share):
    rng, alpha, paths, horizon = np.random.default_rng(11), 0.1, 2000, 1500
    challenger = rng.random((paths, horizon)) < share
    event = rng.random((paths, horizon)) < rate
    n = np.arange(1, horizon + 1)
    nb, sb, s = challenger.cumsum(1), (challenger & event).cumsum(1), event.cumsum(1)
    # The closed form at no difference, which a property above ties to log_evidence.
    pooled = s / n
    evidence = log_ratio(s - sb, n - nb, pooled) + log_ratio(sb, nb, pooled)
    assert np.mean((evidence >= -np.log(alpha)).any(axis=1)) <= alpha


def test_a_challenger_exactly_as_bad_as_tolerated_is_convicted_with_at_most_chance_alpha():
    rng, alpha, paths, horizon, champion_rate, tolerated = np.random.default_rng(3), 0.1, 600, 400, 0.02, 0.03

    @cache
    def convicted(sa: int, na: int, sb: int, nb: int) -> bool:
        # Below the tolerated difference the evidence speaks for the challenger, not against it.
        if sb / nb - sa / na <= tolerated:
            return False
        return log_evidence(Counts(sa, na), Counts(sb, nb), tolerated) >= -np.log(alpha)

    wrong = 0
    for _ in range(paths):
        event, sa, na, sb, nb = rng.random(horizon), 0, 1, 0, 0
        for i in range(horizon):
            if i % 4 == 0:
                nb, sb = nb + 1, sb + (event[i] < champion_rate + tolerated)
            else:
                na, sa = na + 1, sa + (event[i] < champion_rate)
            if convicted(int(sa), na, int(sb), nb):
                wrong += 1
                break
    assert wrong / paths <= alpha


def test_a_really_bad_canary_is_convicted_within_a_few_dozen_of_its_requests():
    rng, alpha, tolerated = np.random.default_rng(5), 0.05 / 3, 0.02
    delays = []
    for _ in range(40):
        sb = 0
        for nb in range(1, 1000):
            sb += int(rng.random() < 0.2)
            champion = Counts(int(rng.binomial(9 * nb, 0.01)), 9 * nb)
            if sb > tolerated * nb and log_evidence(champion, Counts(sb, nb), tolerated) >= -np.log(alpha):
                delays.append(nb)
                break
    assert len(delays) == 40
    assert np.median(delays) < 60
    assert max(delays) < 250


def test_the_joint_region_convicts_no_later_than_two_separate_intervals_would():
    alpha = 0.05 / 3
    for champion, challenger in [
        (Counts(4, 450), Counts(10, 50)),
        (Counts(2, 174), Counts(12, 58)),
        (Counts(15, 300), Counts(15, 100)),
    ]:
        joint = difference_interval(champion, challenger, alpha).low
        separate = rate_interval(challenger, alpha / 2)[0] - rate_interval(champion, alpha / 2)[1]
        assert joint > separate


@pytest.mark.parametrize(("bad", "alpha"), [(Counts(3, 2), 0.05), (Counts(-1, 2), 0.05), (Counts(1, 2), 0.0)])
def test_impossible_counts_and_chances_are_refused(bad, alpha):
    with pytest.raises(ConfigError):
        difference_interval(bad, Counts(0, 0), alpha)
    with pytest.raises(ConfigError):
        difference_interval(Counts(0, 0), bad, alpha)
