"""Exact test and interval for two models that are right or wrong on the same examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tunery.core.statistics import Interval, wilson_interval


class McNemar(NamedTuple):
    """Disagreements of two models and how surprising their imbalance is."""

    fixed: int
    """Wrong in A, right in B [count]."""
    broken: int
    """Right in A, wrong in B [count]."""
    p_value: float
    """Two-sided, in [0, 1]."""


def mcnemar_exact(a: Sequence[bool], b: Sequence[bool]) -> McNemar:
    """Test whether two models are right equally often on the same examples.

    Examples that both get right, or both wrong, say nothing about which is better. If neither is, each
    of the others goes to A or to B like the toss of a fair coin, which gives a binomial tail; it is summed
    in whole numbers, so it is exact however small.

    Args:
        a: Per-example correctness, shape ``(n,)``.
        b: Same shape, same order of examples.

    Returns:
        The counts and a p-value, which is 1.0 when the two never disagree.

    Raises:
        ValueError: The lists differ in length.

    Source:
        McNemar (1947), Psychometrika 12(2), 153-157, in its exact conditional form.

    >>> mcnemar_exact([True, False, False, False], [True, True, True, True])
    McNemar(fixed=3, broken=0, p_value=0.25)
    """
    pairs = list(zip(a, b, strict=True))
    fixed = sum(right and not before for before, right in pairs)
    broken = sum(before and not right for before, right in pairs)
    tosses, fewer = fixed + broken, min(fixed, broken)
    term, tail = 1, 1
    for k in range(1, fewer + 1):
        term = term * (tosses - k + 1) // k
        tail += term
    # Python divides whole numbers of any size correctly rounded.
    return McNemar(fixed, broken, min(1.0, 2 * tail / 2**tosses))


def newcombe_interval(both: int, fixed: int, broken: int, neither: int) -> Interval:
    """Return the 95 % interval of B's share of right answers minus A's, on the same examples.

    Wilson's intervals of the two shares are combined by 'square and add', allowing for the correlation of
    the two (continuity-corrected when positive). It behaves at 0 and 1 and with few disagreements, where
    the textbook interval does not.

    Args:
        both: Right in both [count].
        fixed: Wrong in A, right in B [count].
        broken: Right in A, wrong in B [count].
        neither: Wrong in both [count].

    Raises:
        ValueError: All counts are zero.

    Source:
        Newcombe (1998), Statistics in Medicine 17(22), 2635-2650, method 10.
    """
    n = both + fixed + broken + neither
    share_a, share_b = (both + broken) / n if n else 0.0, (both + fixed) / n if n else 0.0
    low_a, high_a = wilson_interval(both + broken, n)
    low_b, high_b = wilson_interval(both + fixed, n)
    product = (both + broken) * (fixed + neither) * (both + fixed) * (broken + neither)
    agreement = both * neither - fixed * broken
    corrected = max(agreement - n / 2, 0.0) if agreement > 0 else float(agreement)
    phi = corrected / math.sqrt(product) if product else 0.0
    down_a, up_a, down_b, up_b = share_a - low_a, high_a - share_a, share_b - low_b, high_b - share_b
    difference = share_b - share_a
    below = math.sqrt(max(0.0, down_b**2 - 2 * phi * down_b * up_a + up_a**2))
    above = math.sqrt(max(0.0, up_b**2 - 2 * phi * up_b * down_a + down_a**2))
    return Interval(max(-1.0, difference - below), min(1.0, difference + above))
