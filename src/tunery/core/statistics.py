"""Statistics that more than one package needs; pure Python, so that importing them is free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """Two ends of a confidence interval."""

    low: float
    high: float


def normal_quantile(confidence: float) -> float:
    """Return z such that a standard normal lies within ±z with probability ``confidence``.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected so that the chance of any wrong claim among them stays under alpha.

    Args:
        p_values: Of tests that share one alpha, in any order.

    Returns:
        The adjusted values in the same order, at most 1; each is to be compared with alpha itself.

    Source:
        Holm (1979), Scandinavian Journal of Statistics 6(2), 65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def wilson_interval(successes: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Return the score interval for a proportion.

    It stays inside [0, 1] and keeps its width when every trial succeeds or none does, which is where the
    textbook interval (p ± z·se) collapses to a point.

    Args:
        successes: Trials that succeeded [count]. A sum of scores in [0, 1] is allowed: such scores vary at
            most as much as right/wrong with the same mean, so the interval is then on the wide side.
        n: Trials [count], at least 1.
        confidence: Nominal coverage, in (0, 1).

    Raises:
        ValueError: ``n`` is below 1, ``successes`` is not in [0, n], or ``confidence`` not in (0, 1).

    Source:
        Wilson (1927), JASA 22(158), 209-212; recommended by Brown, Cai & DasGupta (2001),
        Statistical Science 16(2), 101-133.

    >>> low, high = wilson_interval(10, 10)
    >>> round(low, 3), high
    (0.722, 1.0)
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials is no proportion")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    z2 = normal_quantile(confidence) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At 0 and n successes the ends are exact in theory; rounding must not push them past the share.
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == n else min(1.0, centre + reach)
    return Interval(low, high)
