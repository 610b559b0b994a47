"""Micro-F1: hits and misses of all classes pooled, so that frequent classes count most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import Corpus, macro_f1
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

DECLARATION = Declaration("micro F1", needs=("labels",), judged_by="accuracy")


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return F1 of the classes among the references, pooled.

    An answer that names no such class is a miss and no false alarm; this is scikit-learn's ``f1_score(...,
    labels=sorted(set(references)), average="micro")``, which is above accuracy where answers name none.
    """
    by_class = macro_f1.corpus(sides, options)
    return Corpus(lambda rows: pooled(by_class.columns(rows)), of_sums)


def pooled(columns: Floats) -> Floats:
    """Return hits, wanted and answered labels, ``(n, 3 * n_classes)`` to ``(n, 3)``."""
    pooled: Floats = columns.reshape(len(columns), 3, -1).sum(axis=2)
    return pooled


def of_sums(sums: Floats) -> Floats:
    """Return F1 of summed hits, wanted and answered labels, ``(k, 3)`` to ``(k,)``; 0 of none."""
    import numpy as np

    values: Floats = 2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1)
    return values
