"""Shares of two samples that are not paired."""

from __future__ import annotations

import math
from typing import NamedTuple

from tunery.core.statistics import Interval, wilson_interval


class SharesCompared(NamedTuple):
    """How far one sample's share lies above another's."""

    difference: float
    """Second minus first."""
    ci95: Interval
    p_value: float
    """Two-sided."""


def compare_shares(a: tuple[int, int], b: tuple[int, int]) -> SharesCompared:
    """Compare two shares of independent rows by Fisher's exact test, with Newcombe's hybrid score interval.

    Args:
        a: Rows with the property and all rows of the first sample [count].
        b: The same of the second.

    Raises:
        ValueError: A sample is empty, or has more hits than rows.

    Source:
        Newcombe (1998), Statistics in Medicine 17(8), 873-890, method 10; Fisher (1935), The Design of
        Experiments, chapter 2.

    >>> compare_shares((0, 50), (25, 50)).difference
    0.5
    """
    from scipy.stats import fisher_exact

    (hits_a, n_a), (hits_b, n_b) = a, b
    low_a, high_a = wilson_interval(hits_a, n_a)
    low_b, high_b = wilson_interval(hits_b, n_b)
    share_a, share_b = hits_a / n_a, hits_b / n_b
    difference = share_b - share_a
    below = math.hypot(share_b - low_b, high_a - share_a)
    above = math.hypot(high_b - share_b, share_a - low_a)
    p_value = float(fisher_exact([[hits_a, n_a - hits_a], [hits_b, n_b - hits_b]]).pvalue)
    return SharesCompared(difference, Interval(difference - below, difference + above), p_value)
