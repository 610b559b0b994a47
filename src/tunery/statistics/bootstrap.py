"""Bootstrap and randomization for statistics of sums over rows, vectorised.

A mean, a macro-F1 and a perplexity are all functions of column sums over examples. Resampling then is one
matrix product: how often each row was drawn, times the rows' columns.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from tunery.core.statistics import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Statistic = Callable[[Floats], Floats]

DRAWS = 2_000
"""Resamples behind an interval [count]."""
PAIRED_DRAWS = 10_000
"""Swaps behind a p-value [count]; its smallest value is about one over this."""
_ROUNDING = 1e-12
"""What sums in another order may differ by."""
_CELLS = 4_000_000
"""Drawn row numbers held at once [count], which bounds memory to tens of MB."""


class PairedTest(NamedTuple):
    """A difference of two models on the same rows, and how surprising it is."""

    difference: float
    ci95: Interval
    p_value: float
    """Two-sided, in (0, 1]."""


def bca_interval(columns: Floats, statistic: Statistic, *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Return the bias-corrected and accelerated 95 % bootstrap interval.

    Plain percentiles are off-centre for skewed statistics such as macro-F1 and perplexity; BCa corrects
    bias and skewness and gives the same interval on any monotone scale.

    Args:
        columns: What is summed, shape ``(n_rows, n_columns)``; at least two rows.
        statistic: Maps sums of shape ``(k, n_columns)`` to values of shape ``(k,)``. It must not depend
            on the number of rows other than through a column that counts them, because the jackknife
            leaves one out.
        seed: Same seed, same interval.
        draws: Resamples [count].

    Raises:
        ValueError: Fewer than two rows.

    Source:
        Efron (1987), JASA 82(397), 171-185, equations 2.3 and 6.6.
    """
    import numpy as np

    resampled = _resample(columns, statistic, seed=seed, draws=draws)
    total = columns.sum(axis=0, keepdims=True)
    observed = float(statistic(total)[0])
    left_out = statistic(total - columns)
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum()) ** 1.5
    acceleration = float((deviations**3).sum()) / (6 * spread) if spread > 0 else 0.0
    # Ties are split, as most statistics here are discrete.
    below = float((resampled < observed).mean() + (resampled <= observed).mean()) / 2
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 1 / (draws + 1)), draws / (draws + 1)))
    levels = []
    for level in (0.025, 0.975):
        shifted = bias + normal.inv_cdf(level)
        denominator = 1 - acceleration * shifted
        levels.append(normal.cdf(bias + shifted / denominator) if denominator > 0 else level)
    low, high = np.quantile(resampled, levels)
    return Interval(float(low), float(high))


def paired_test(
    a: Floats, b: Floats, difference: Statistic, *, seed: int = 0, draws: int = PAIRED_DRAWS
) -> PairedTest:
    """Test whether two models differ in a statistic of sums over the rows that they share.

    If neither is better, each row's two answers may as well be swapped; the p-value is the share of swaps
    at random that part the models at least as far as they are ('approximate randomization'). Unlike a
    bootstrap's it keeps its level on few rows. The interval is the percentile bootstrap's, both models
    resampled together, so that easy and hard rows do not widen it.

    Args:
        a: What is summed for A, shape ``(n_units, n_columns)``: rows, or clusters of rows; at least two.
        b: The same for B.
        difference: Maps sums of A and B side by side, ``(k, 2 * n_columns)``, to B minus A, shape ``(k,)``.
        seed: Same seed, same result.
        draws: Swaps, and resamples [count].

    Raises:
        ValueError: Fewer than two units.

    Source:
        Noreen (1989), Computer-Intensive Methods for Testing Hypotheses; Riezler & Maxwell (2005), ACL
        workshop on evaluation measures, 57-64; Koehn (2004), EMNLP, 388-395, for paired resampling.
    """
    import numpy as np

    columns = np.concatenate([a, b], axis=1)
    resampled = _resample(columns, difference, seed=seed, draws=draws)
    total = columns.sum(axis=0, keepdims=True)
    observed = float(difference(total)[0])
    low, high = np.quantile(resampled, (0.025, 0.975))
    swapped = np.concatenate([b - a, a - b], axis=1)  # what swapping a unit adds to the sums
    generator = np.random.default_rng(seed)
    size = max(1, min(draws, _CELLS // len(a)))
    as_far = 0
    for start in range(0, draws, size):
        swaps = generator.random((min(size, draws - start), len(a))) < 0.5
        as_far += int((np.abs(difference(total + swaps @ swapped)) >= abs(observed) - _ROUNDING).sum())
    # One is added to both counts: the answers as they are belong to the possible swaps.
    return PairedTest(observed, Interval(float(low), float(high)), (as_far + 1) / (draws + 1))


def _resample(columns: Floats, statistic: Statistic, *, seed: int, draws: int) -> Floats:
    """Return the statistic of ``draws`` resamples, shape ``(draws,)``."""
    import numpy as np

    n = len(columns)
    if n < 2:
        raise ValueError("a bootstrap needs at least two rows")
    generator = np.random.default_rng(seed)
    batch = max(1, min(draws, _CELLS // n))
    values = []
    for start in range(0, draws, batch):
        size = min(batch, draws - start)
        drawn = generator.integers(0, n, size=(size, n))
        drawn += (np.arange(size) * n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        values.append(statistic(counts.astype(np.float64) @ columns))  # (size, n) @ (n, columns)
    return np.concatenate(values)
