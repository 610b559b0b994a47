"""Similarity: how near the answer's meaning is to the reference's, by an embedding model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("similarity of meaning", needs=("encoder",))
_SAME = 0.9
"""Cosine from which an answer counts as right."""


class Similarity:
    """Cosine of the embeddings of answer and reference, negative ones as 0; an empty answer has 0.

    An answer counts as right from 0.9. Negations and numbers hardly move an embedding: it says what an answer
    is about, not whether it is true.

    Args:
        encoder: Texts to vectors of length one.
    """

    def __init__(self, encoder: Callable[[Sequence[str]], Any]) -> None:
        self._encoder = encoder

    def score(self, prediction: str, example: Example) -> float:
        """Return the cosine."""
        pair = [text.encode("utf-8", "replace").decode() for text in (prediction, example.reference)]
        if not all(text.strip() for text in pair):
            return float(pair[0].strip() == pair[1].strip())
        one, other = self._encoder(pair)
        return min(1.0, max(0.0, float(one @ other)))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the cosine is 0.9 or more."""
        return self.score(prediction, example) >= _SAME


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer.

    Raises:
        ConfigError: No embedding model is given.
    """
    if options.models.encoder is None:
        raise ConfigError("similarity needs an embedding model, and this evaluation has none")
    return Similarity(options.models.encoder)
