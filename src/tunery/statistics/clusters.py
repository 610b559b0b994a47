"""Rows that hang together: of one document, one template, one prompt answered several times.

Such rows are right or wrong together, so they say less than as many that are independent. A cluster is then
what is drawn, swapped or summed; rows without one are clusters of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.core.statistics import Interval

if TYPE_CHECKING:
    from tunery.statistics.bootstrap import Floats

_LEVEL = 0.95


def sums_by_cluster(columns: Floats, clusters: Sequence[str]) -> Floats:
    """Return columns summed over the rows of each cluster, ``(n, k)`` to ``(n_clusters, k)``.

    Clusters keep the order of their first rows, so that rows that are all alone stay as they are.
    """
    import numpy as np

    places: dict[str, int] = {}
    rows = [places.setdefault(cluster, len(places)) for cluster in clusters]
    sums = np.zeros((len(places), columns.shape[1]))
    np.add.at(sums, rows, columns)
    return sums


def are_clustered(clusters: Sequence[str]) -> bool:
    """Return whether some rows share a cluster."""
    return len(set(clusters)) < len(clusters)


def mean_difference_interval(sums: Floats) -> Interval:
    """Return the 95 % interval of a mean difference whose rows come in clusters.

    The error is robust to anything that rows of one cluster have in common (CR1: residuals are summed within
    a cluster before they are squared); t counts clusters, not rows. Half a pseudo-cluster is won and
    half a one lost: where few clusters differ at all, a loss that none of them shows must stay possible.

    Args:
        sums: Sum of differences and number of rows of each cluster, shape ``(n_clusters, 2)``.

    Returns:
        The interval, cut to [-1, 1] where every difference lies there; all of [-1, 1] for a single cluster.

    Source:
        Cameron & Miller (2015), Journal of Human Resources 50(2), 317-372, section II; Miller (2024),
        arXiv 2411.00640, section 2.2 for evaluations; Agresti & Min (2005), Statistics in Medicine 24(5),
        729-740 for the pseudo-observations, taken to clusters here.
    """
    import numpy as np
    from scipy.stats import t

    clusters, n = len(sums), float(sums[:, 1].sum())
    mean = float(sums[:, 0].sum() / n)
    bounded = bool((np.abs(sums[:, 0]) <= sums[:, 1] + 1e-9).all())
    if clusters < 2:
        return Interval(min(-1.0, mean), max(1.0, mean))
    residuals = sums[:, 0] - mean * sums[:, 1]
    pseudo = float((sums[:, 1] ** 2).mean()) if bounded else 0.0
    variance = (clusters / (clusters - 1) * float((residuals**2).sum()) + pseudo) / n**2
    reach = float(t.ppf(0.5 + _LEVEL / 2, clusters - 1)) * variance**0.5
    low, high = mean - reach, mean + reach
    return Interval(max(-1.0, low), min(1.0, high)) if bounded else Interval(low, high)
