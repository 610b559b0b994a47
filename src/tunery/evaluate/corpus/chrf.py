"""chrF: runs of characters that answers share with their references, over the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunery.evaluate.corpus import Corpus
from tunery.evaluate.corpus.ngrams import counted, signature_of
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

DECLARATION = Declaration("chrF", judged_by="exact_match")
_RECALL_COUNTS = 2.0**2
"""Recall weighs twice as much as precision."""


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return sacrebleu's corpus chrF2 as a share, so that its 51.3 is 0.513.

    Source:
        Popović (2015), WMT, 392-395.
    """
    metric = _metric()
    return Corpus(lambda rows: counted(rows, metric), of_sums)


def signature(options: ScorerOptions) -> str:
    """Return sacrebleu's signature of the metric."""
    return signature_of(_metric())


def _metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def of_sums(sums: Floats) -> Floats:
    """Return chrF of summed counts.

    Args:
        sums: For orders 1 to 6 the n-grams of the answers, of the references and those matched, shape
            ``(k, 18)``. Orders of which either has none are left out of the means.

    Returns:
        Shape ``(k,)``.
    """
    import numpy as np

    given, wanted, matched = np.moveaxis(sums.reshape(len(sums), -1, 3), 2, 0)
    counts = (given > 0) & (wanted > 0)
    orders = np.maximum(counts.sum(axis=1), 1)
    precision = (counts * matched / np.maximum(given, 1)).sum(axis=1) / orders
    recall = (counts * matched / np.maximum(wanted, 1)).sum(axis=1) / orders
    below = _RECALL_COUNTS * precision + recall
    both = (1 + _RECALL_COUNTS) * precision * recall
    values: Floats = np.divide(both, below, out=np.zeros_like(both), where=below > 0)
    return values
