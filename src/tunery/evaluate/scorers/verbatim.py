"""Verbatim: whether an answer says a long run of its row's own answer word for word."""

from __future__ import annotations

from tunery.core.example import Example, prompt_text
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.text.answer import fold
from tunery.text.refusal import says_something

DECLARATION = Declaration("answers said word for word", higher_is_better=False)
RUN = 12
"""Words in a row that hardly come out by chance [count]."""


class Verbatim:
    """1 when the answer holds twelve words in a row of the reference that do not stand in the prompt.

    On rows that training saw, beside the same on rows that it did not and beside the base, it shows what was
    learnt by heart. References that are shorter are left out: a right label is no leak.
    """

    def applies(self, example: Example) -> bool:
        """Return whether the reference is long enough."""
        return bool(_runs(example.reference) - _runs(prompt_text(example)))

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 where such a run is said, else 0.0."""
        own = _runs(example.reference) - _runs(prompt_text(example))
        return float(not own.isdisjoint(_runs(prediction)))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether there is an answer in words of its own."""
        return says_something(prediction) and not self.score(prediction, example)


def _runs(text: str) -> set[tuple[str, ...]]:
    words = fold(text).split()
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer."""
    return Verbatim()
