"""Perplexity: how surprised a model is by the answers given, a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import Corpus
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

LOGPROB, TOKENS = "logprob", "completion_tokens"
"""Per-row numbers: the log-likelihood of the reference [nats] and its tokens."""
DECLARATION = Declaration(
    "perplexity",
    higher_is_better=False,
    auto=("labels", "json", "text"),
    judged_by="exact_match",
    unit="number",
    scores=(LOGPROB, TOKENS),
)


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return exp of the mean negative log-likelihood per completion token, pooled over rows.

    Rows are resampled, not tokens, because tokens of one answer hang together.
    """
    return Corpus(columns, of_sums)


def columns(rows: Sequence[Row]) -> Floats:
    """Return log-likelihoods [nats] and tokens, shape ``(n, 2)``."""
    import numpy as np

    return np.asarray([[row.scores[LOGPROB], row.scores[TOKENS]] for row in rows], dtype=np.float64)


def of_sums(sums: Floats) -> Floats:
    """Return the perplexity of summed (log-likelihood [nats], tokens), ``(k, 2)`` to ``(k,)``."""
    import numpy as np

    values: Floats = np.exp(-sums[:, 0] / sums[:, 1])
    return values
