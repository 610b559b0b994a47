"""The mean of what people would say, from few of their labels and many of a judge's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.core.config import Record
from tunery.core.statistics import Interval, wilson_interval
from tunery.statistics.clusters import sums_by_cluster

if TYPE_CHECKING:
    from tunery.statistics.bootstrap import Floats

_LEVEL = 0.95
_FEWEST = 2
"""Clusters with a label of a person that an interval needs [count]."""


class Corrected(Record):
    """A mean that was measured by a judge, corrected for the error that people's labels show."""

    value: float
    ci95: Interval
    labelled: int
    """Rows that people labelled [count]."""
    labels_alone: float
    """Mean of the labels that people gave."""
    labels_ci95: Interval
    """Interval of that mean; never narrower than ``ci95``."""
    weight: float
    """How far the judge is believed, in [0, 1]; 0 leaves its words out."""


def corrected_mean(
    human: Sequence[float],
    judged: Sequence[float],
    judged_only: Sequence[float],
    *,
    clusters: Sequence[str] = (),
    clusters_only: Sequence[str] = (),
) -> Corrected:
    """Return the mean that people would give to all rows, where a judge gave all and people gave some.

    The judge's mean over the many rows is shifted by its mean error on the few that people labelled, so any
    bias of the judge cancels, whatever its kind. Its words are weighted so that the variance is least: a
    judge whose words say nothing gets weight 0, and the interval is that of the labels alone. Both kinds of
    rows must be drawn from the same population; a judge checked on other rows cannot correct these.

    Args:
        human: What people said of the labelled rows, in [0, 1], shape ``(n,)``.
        judged: What the judge said of the same rows, same order.
        judged_only: What the judge said of the rows that nobody labelled, shape ``(N,)``; where there is none
            the labels are the answer.
        clusters: What each labelled row hangs together with, shape ``(n,)``; empty where each stands alone.
        clusters_only: The same of the others, shape ``(N,)``.

    Raises:
        ValueError: Fewer than two independent labelled rows, or lists that differ in length.

    Source:
        Angelopoulos, Bates, Fannjiang, Jordan & Zrnic (2023), Science 382, 669-674, for the estimate;
        Angelopoulos, Duchi & Zrnic (2023), PPI++, arXiv 2311.01453, section 6, for the weight.
    """
    import numpy as np
    from scipy.stats import t

    if len(human) != len(judged):
        raise ValueError("needs the judge's word on every labelled row")
    names = clusters or [str(i) for i in range(len(human))]
    others = clusters_only or [str(i) for i in range(len(judged_only))]
    units = len(set(names))
    if units < _FEWEST:
        raise ValueError("needs labels of two rows that are independent")
    both = np.column_stack([human, judged]).astype(np.float64)
    (var_human, shared), (_, var_judged) = _covariance_of_means(both, names)
    many = np.asarray(judged_only, dtype=np.float64)[:, None]
    spread = float(var_judged) + float(_covariance_of_means(many, others)[0, 0]) if len(many) else 0.0
    weight = min(max(float(shared) / spread, 0.0), 1.0) if spread > 0 else 0.0
    labels_alone = float(both[:, 0].mean())
    if np.ptp(both[:, 0]) == 0:  # no label differs, so nothing says how much they might
        alike = wilson_interval(labels_alone * units, units)
        return Corrected(
            value=labels_alone,
            ci95=alike,
            labelled=len(human),
            labels_alone=labels_alone,
            labels_ci95=alike,
            weight=0.0,
        )
    shift = float(many.mean() - both[:, 1].mean()) if len(many) else 0.0
    value = labels_alone + weight * shift
    variance = float(var_human) - 2 * weight * float(shared) + weight**2 * spread
    quantile = float(t.ppf(0.5 + _LEVEL / 2, units - 1))
    return Corrected(
        value=min(max(value, 0.0), 1.0),
        ci95=_around(value, quantile * math.sqrt(max(variance, 0.0))),
        labelled=len(human),
        labels_alone=labels_alone,
        labels_ci95=_around(labels_alone, quantile * math.sqrt(float(var_human))),
        weight=weight,
    )


def _covariance_of_means(columns: Floats, clusters: Sequence[str]) -> Floats:
    """Return the covariance of the columns' means, robust to what rows of a cluster share (CR1)."""
    import numpy as np

    residuals = sums_by_cluster(columns - columns.mean(axis=0), clusters)
    units = len(residuals)
    if units < _FEWEST:
        return np.zeros((columns.shape[1], columns.shape[1]))
    found: Floats = residuals.T @ residuals * (units / (units - 1)) / len(columns) ** 2
    return found


def _around(value: float, reach: float) -> Interval:
    return Interval(min(max(value - reach, 0.0), 1.0), max(min(value + reach, 1.0), 0.0))
