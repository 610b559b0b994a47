"""How far those who judge the same things agree, beyond what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tunery.core.config import Record
from tunery.core.statistics import Interval, wilson_interval
from tunery.statistics.bootstrap import bca_interval
from tunery.statistics.clusters import are_clustered, sums_by_cluster

if TYPE_CHECKING:
    from tunery.statistics.bootstrap import Floats

_FEWEST = 2
"""Clusters that can be resampled [count]."""


class Agreement(Record):
    """A coefficient of agreement: 1 for always, 0 for as often as by chance, below 0 for less often."""

    value: float
    ci95: Interval


def cohen_kappa(
    human: Sequence[str],
    judged: Sequence[str],
    classes: Sequence[str],
    *,
    ordered: bool = False,
    clusters: Sequence[str] = (),
) -> Agreement | None:
    """Return Cohen's kappa of two who gave each row a class.

    Where they never differ no resample could; the interval is then as wide as Wilson's for their agreement.

    Args:
        human: What one said, shape ``(n,)``; at least two rows.
        judged: What the other said, same order.
        classes: All that may be said, in order.
        ordered: Whether a miss counts by the square of its distance on that scale (weighted kappa).
        clusters: What each row hangs together with; empty where each stands alone.

    Returns:
        None where both gave all rows one and the same class, which chance would do as well.

    Raises:
        ValueError: Fewer than two rows, or lists that differ in length.

    Source:
        Cohen (1960), Educational and Psychological Measurement 20(1), 37-46; Cohen (1968), Psychological
        Bulletin 70(4), 213-220, for the weights.
    """
    import numpy as np

    n, k = len(human), len(classes)
    place = {name: i for i, name in enumerate(classes)}
    cells = np.zeros((n, k * k))
    cells[np.arange(n), [place[h] * k + place[j] for h, j in zip(human, judged, strict=True)]] = 1
    steps = np.subtract.outer(np.arange(k), np.arange(k))
    distance = (steps / max(k - 1, 1)) ** 2 if ordered else (steps != 0).astype(np.float64)

    def kappa(sums: Floats) -> Floats:
        table = sums.reshape(len(sums), k, k)
        by_chance = np.einsum("ni,nj,ij->n", table.sum(axis=2), table.sum(axis=1), distance)
        missed = (table * distance).sum(axis=(1, 2)) * table.sum(axis=(1, 2))
        # One class alone shows no agreement beyond chance.
        found: Floats = np.where(by_chance > 0, 1 - missed / np.where(by_chance > 0, by_chance, 1), 0.0)
        return found

    total = cells.sum(axis=0, keepdims=True)
    table = total.reshape(k, k)
    by_chance = float(table.sum(axis=1) @ distance @ table.sum(axis=0)) / n**2
    if by_chance == 0:
        return None
    value = float(kappa(total)[0])
    rows = sums_by_cluster(cells, clusters) if are_clustered(clusters) else cells
    agreed = 1 - value == 0
    if agreed or len(rows) < _FEWEST:
        low = wilson_interval(len(rows) if agreed else 0, len(rows)).low
        return Agreement(value=value, ci95=Interval(max(-1.0, 1 - (1 - low) / by_chance), 1.0))
    return Agreement(value=value, ci95=bca_interval(rows, kappa))


class ClassAgreement(Record):
    """How a judge does on one class, people's word taken for the truth."""

    name: str
    support: int
    """Rows of the class [count]."""
    sensitivity: float | None
    """Share of the class that the judge gave it; None where there is no such row."""
    specificity: float | None
    """Share of the other rows that the judge gave another; None where there is none."""
    judged_as: Mapping[str, int]
    """What the judge gave rows of the class [count]."""


def by_class(
    human: Sequence[str], judged: Sequence[str], classes: Sequence[str]
) -> tuple[ClassAgreement, ...]:
    """Return sensitivity, specificity and confusion of each class, in the order of ``classes``."""
    pairs = list(zip(human, judged, strict=True))
    found = []
    for name in classes:
        own = [j for h, j in pairs if h == name]
        others = [j for h, j in pairs if h != name]
        found.append(
            ClassAgreement(
                name=name,
                support=len(own),
                sensitivity=own.count(name) / len(own) if own else None,
                specificity=1 - others.count(name) / len(others) if others else None,
                judged_as={said: own.count(said) for said in classes if said in own},
            )
        )
    return tuple(found)


def krippendorff_alpha(
    ratings: Sequence[Sequence[int]], scale: tuple[int, int], *, clusters: Sequence[str] = ()
) -> Agreement | None:
    """Return Krippendorff's alpha for ratings on an ordered scale, with rows as what is resampled.

    Rows with fewer than two ratings say nothing of agreement and are left out.

    Args:
        ratings: What was given to each row, by however many.
        scale: Lowest and highest rating.
        clusters: What each row hangs together with; empty where each stands alone.

    Returns:
        None where fewer than two rows were rated twice, or all of them got one and the same rating.

    Source:
        Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, University of Pennsylvania; ordinal
        difference of Krippendorff (2019), Content Analysis, 4th edition, section 12.3.4.
    """
    import numpy as np

    low, k = scale[0], scale[1] - scale[0] + 1
    names = clusters or [str(i) for i in range(len(ratings))]
    kept = [(given, name) for given, name in zip(ratings, names, strict=True) if len(given) > 1]
    cells = np.zeros((len(kept), k * k))
    for row, (given, _) in enumerate(kept):
        counts = np.bincount(np.asarray(given) - low, minlength=k).astype(np.float64)
        pairs = np.outer(counts, counts) - np.diag(counts)
        cells[row] = pairs.ravel() / (len(given) - 1)
    rows = sums_by_cluster(cells, [name for _, name in kept])
    if len(rows) < _FEWEST:
        return None

    def alpha(sums: Floats) -> Floats:
        """Map summed coincidences, ``(m, k * k)``, to alphas, ``(m,)``."""
        table = sums.reshape(len(sums), k, k)
        of_value = table.sum(axis=2)
        up_to = np.cumsum(of_value, axis=1) - of_value / 2  # ordinal place of each value
        distance = (up_to[:, :, None] - up_to[:, None, :]) ** 2
        expected = (of_value[:, :, None] * of_value[:, None, :] * distance).sum(axis=(1, 2))
        observed = (table * distance).sum(axis=(1, 2)) * (of_value.sum(axis=1) - 1)
        found: Floats = np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), 0.0)
        return found

    total = cells.sum(axis=0, keepdims=True)
    if np.count_nonzero(total.reshape(k, k).sum(axis=0)) < _FEWEST:
        return None
    return Agreement(value=float(alpha(total)[0]), ci95=bca_interval(rows, alpha))
