"""Changes: what cleaning did to texts, counted by kind, with one row of each to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tunery.core.dataset import TextChange
from tunery.core.figures import counted


def merged(changes: Iterable[TextChange]) -> list[TextChange]:
    """Return changes with those of one kind added up, the most frequent first; the first row is shown."""
    found: dict[str, TextChange] = {}
    for change in changes:
        known = found.get(change.kind)
        found[change.kind] = change if known is None else _sum(known, change)
    return sorted(found.values(), key=lambda c: (-c.prompts - c.answers, c.kind))


def _sum(one: TextChange, other: TextChange) -> TextChange:
    return one.with_(prompts=one.prompts + other.prompts, answers=one.answers + other.answers)


def in_words(changes: Iterable[TextChange]) -> Iterator[str]:
    """Yield each kind with its counts and its row, as a person reads it.

    >>> change = TextChange(kind="markup", prompts=2, answers=1, example="ex-1", source="a.csv", row=3)
    >>> list(in_words([change]))
    ['markup in 2 prompts and 1 answer (row 3 of a.csv is ex-1)']
    """
    for change in changes:
        counts = {"prompt": change.prompts, "answer": change.answers}
        where = " and ".join(counted(n, noun) for noun, n in counts.items() if n)
        yield f"{change.kind} in {where} (row {change.row} of {change.source} is {change.example})"
