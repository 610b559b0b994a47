"""Latency of the slow answers: one in twenty takes longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import Corpus
from tunery.evaluate.corpus.quantile import quantile
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row

LATENCY = "latency_ms"
"""Per-row number: from question to last token, waiting for the batch included [ms]."""
DECLARATION = Declaration(
    "latency p95", higher_is_better=False, judged_by="exact_match", unit="ms", scores=(LATENCY,)
)


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return the time within which 95 % of the answers are complete."""
    return quantile(0.95, LATENCY, sides)
