"""Token F1: words that answer and reference share, as SQuAD counts them."""

from __future__ import annotations

import re
import string
from collections import Counter

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("token F1")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TokenF1:
    """Harmonic mean of the shares of the answer's and of the reference's words that both have.

    Words are compared without case, ASCII punctuation and the English articles; one that occurs twice counts
    twice. Where that leaves nothing of either text, 1 if nothing is left of both. References that consist of
    signs alone, such as ``+`` and ``-``, are compared as they are.

    Source:
        Rajpurkar et al. (2016), EMNLP, 2383-2392, section 6.1; empty texts as in SQuAD 2.0's script.
    """

    def score(self, prediction: str, example: Example) -> float:
        """Return F1."""
        wanted, given = words(example.reference), words(prediction)
        if not wanted and example.reference.strip():
            wanted, given = example.reference.split(), prediction.split()
        if not wanted or not given:
            return float(wanted == given)
        shared = (Counter(wanted) & Counter(given)).total()
        return 2 * shared / (len(wanted) + len(given))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether every word is there and no other, in any order."""
        return self.score(prediction, example) == 1


def words(text: str) -> list[str]:
    """Return the words of a text in SQuAD's normal form.

    >>> words("The Norman, a duke!")
    ['norman', 'duke']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer; it has no options."""
    return TokenF1()
