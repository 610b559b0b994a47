"""Quotas: a total divided in proportion, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction


def quotas(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide ``total`` among strata in proportion to their sizes, exactly (largest remainder).

    Ties go to the larger stratum, then by name.

    Args:
        sizes: Rows of each stratum [count].
        total: Rows to give out; at most the sum of sizes is given.

    Source:
        Hamilton's method of apportionment.

    >>> quotas({"a": 5, "b": 3, "c": 2}, 5)
    {'a': 3, 'b': 1, 'c': 1}
    """
    whole = sum(sizes.values())
    total = min(total, whole)
    exact = {s: Fraction(total * count, whole) if whole else Fraction(0) for s, count in sizes.items()}
    given = {s: int(share) for s, share in exact.items()}
    spare = total - sum(given.values())
    by_remainder = sorted(sizes, key=lambda s: (given[s] - exact[s], -sizes[s], s))
    for stratum in by_remainder[:spare]:
        given[stratum] += 1
    return given
