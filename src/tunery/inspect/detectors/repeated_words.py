"""Repeated words: answers that say the same words over and over."""

from __future__ import annotations

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, closed, finding

_REPEATED = FindingKind(
    "repeated_words",
    "Repeated words",
    "medium",
    "Look at them and take out those that only repeat themselves.",
)
KINDS = (_REPEATED,)

_LONG = 300
"""Words from which a text's share of different words falls below any fixed bar [words]."""


def find(columns: Columns, *, min_unique_words: float = 0.3, unique_words_from: int = 10) -> list[Finding]:
    """Find answers of few different words, the poorest first; of classes in a closed set none is asked.

    Args:
        columns: The rows.
        min_unique_words: Smallest share of different words, in [0, 1].
        unique_words_from: Shortest answer whose words are counted [words].
    """
    found = []
    for i, text in enumerate([] if closed(columns) else columns.answers):
        words = text.casefold().split()
        if len(words) < unique_words_from:
            continue
        ratio = len(set(words)) / len(words)
        # A long text repeats its words by nature: the bar falls as the vocabulary of a language runs out.
        if ratio < min_unique_words * min(1.0, (_LONG / len(words)) ** 0.5):
            found.append((ratio, i, len(words)))
    if not found:
        return []
    answers = counted(len(found), "answer has", "answers have")
    message = f"{answers} fewer than {percent(min_unique_words)} different words."
    cases = [
        Case((i,), columns.answers[i], f"{percent(ratio)} of {counted(count, 'word')} are different")
        for ratio, i, count in sorted(found)
    ]
    return [finding(columns, _REPEATED, message, cases, numbers={"rows": len(found)})]
