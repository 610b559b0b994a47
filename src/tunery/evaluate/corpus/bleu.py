"""BLEU: n-grams that answers share with their references, over the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunery.evaluate.corpus import Corpus
from tunery.evaluate.corpus.ngrams import counted, signature_of
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

DECLARATION = Declaration("BLEU", judged_by="exact_match")
_ORDERS = 4


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return sacrebleu's corpus BLEU as a share, so that its 34.2 is 0.342.

    Source:
        Papineni et al. (2002), ACL, 311-318; Post (2018), WMT, 186-191, for tokenizers and signature.
    """
    metric = _metric(options)
    return Corpus(lambda rows: counted(rows, metric), of_sums)


def signature(options: ScorerOptions) -> str:
    """Return sacrebleu's signature of the metric."""
    return signature_of(_metric(options))


def _metric(options: ScorerOptions) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=options.bleu_tokenizer, force=True)


def of_sums(sums: Floats) -> Floats:
    """Return BLEU of summed counts with sacrebleu's exponential smoothing.

    Args:
        sums: Tokens answered and wanted, then n-grams matched and answered of orders 1 to 4, shape
            ``(k, 10)``. Orders without a match count as a half, a quarter, an eighth of a match.

    Returns:
        Shape ``(k,)``; 0 where nothing matches or no answer has four tokens.
    """
    import numpy as np

    answered, wanted = sums[:, 0], sums[:, 1]
    matched, given = sums[:, 2 : 2 + _ORDERS], sums[:, 2 + _ORDERS :]
    none = (given == 0).any(axis=1) | (matched == 0).all(axis=1)
    missed = matched == 0
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), matched)
    logs = np.log(smoothed / np.maximum(given, 1)).mean(axis=1)
    brevity = np.minimum(0, 1 - wanted / np.maximum(answered, 1))
    values: Floats = np.where(none, 0.0, np.exp(logs + brevity))
    return values
