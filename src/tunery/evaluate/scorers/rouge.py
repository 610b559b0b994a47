"""ROUGE: word sequences that answer and reference share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions

DECLARATION = Declaration("ROUGE-L")
_KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_LONGEST = 4_000
"""Words of either text that the longest shared sequence is looked for in; it takes the product of both."""


class Rouge:
    """F1 of rouge-score, stemmed: ROUGE-L as the score, each kind as a part.

    Its corpus figure is the mean over rows, as rouge-score's own aggregator has it. Words are those of the
    letters a to z and digits: of other scripts take chrF. Texts are read up to 4,000 words.

    Source:
        Lin (2004), Text Summarization Branches Out, 74-81; the package rouge-score.
    """

    part_names = _KINDS

    def __init__(self) -> None:
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]  # ships no types

        self._scorer: Any = RougeScorer(_KINDS, use_stemmer=True)
        self._last: tuple[str, str, Mapping[str, float]] | None = None

    def score(self, prediction: str, example: Example) -> float:
        """Return ROUGE-L's F1."""
        return self.parts(prediction, example)["rougeL"]

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether both have the same words in the same order."""
        return self.score(prediction, example) == 1

    def parts(self, prediction: str, example: Example) -> Mapping[str, float]:
        """Return the F1 of rouge1, rouge2, rougeL and rougeLsum."""
        reference = example.reference
        if self._last is None or self._last[:2] != (prediction, reference):
            found = self._scorer.score(_cut(reference), _cut(prediction))
            values = {kind: float(found[kind].fmeasure) for kind in _KINDS}
            self._last = (prediction, reference, values)  # score and parts are asked one after the other
        return self._last[2]


def _cut(text: str) -> str:
    """Return a text up to its 4,000th word, line breaks kept: sentences of rougeLsum stand on lines."""
    if text.count(" ") + text.count("\n") < _LONGEST:
        return text
    lines, left = [], _LONGEST
    for line in text.split("\n"):
        words = line.split()[:left]
        lines.append(" ".join(words))
        left -= len(words)
        if left <= 0:
            break
    return "\n".join(lines)


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer; it has no options."""
    return Rouge()
