"""The bootstrap for statistics of sums over rows, vectorised.

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
"""Resamples behind a p-value [count]; its smallest value is about two over this."""
_CELLS = 4_000_000
"""Drawn row numbers held at once [count], which bounds memory to tens of MB."""


class PairedBootstrap(NamedTuple):
    """How a difference varies over resamples of the same rows."""

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


def paired_bootstrap(
    columns: Floats, difference: Statistic, *, seed: int = 0, draws: int = PAIRED_DRAWS
) -> PairedBootstrap:
    """Resample the examples that two models share and see how their difference varies.

    Both models are resampled together, so that easy and hard examples do not widen the interval. The
    p-value is the one at which the percentile interval would just touch zero, so the two never disagree
    by more than the rounding of finite draws.

    Args:
        columns: What is summed for A and for B, shape ``(n_rows, n_columns)``; at least two rows.
        difference: Maps sums ``(k, n_columns)`` to B minus A, shape ``(k,)``.
        seed: Same seed, same result.
        draws: Resamples [count].

    Raises:
        ValueError: Fewer than two rows.

    Source:
        Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapters 13 and 15;
        Koehn (2004), EMNLP, 388-395, for paired resampling of test sets.
    """
    import numpy as np

    resampled = _resample(columns, difference, seed=seed, draws=draws)
    observed = float(difference(columns.sum(axis=0, keepdims=True))[0])
    low, high = np.quantile(resampled, (0.025, 0.975))
    # One is added to both counts so that no p-value is zero: the data themselves are one possible draw.
    tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    p_value = min(1.0, 2 * (tail + 1) / (draws + 1))
    return PairedBootstrap(observed, Interval(float(low), float(high)), p_value)


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
