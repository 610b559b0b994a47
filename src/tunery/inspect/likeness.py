"""Likeness: which prompts of a dataset say the same or nearly the same, found once for all who ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunery.core.columns import Columns
from tunery.text.minhash import SimilarPair, similar_pairs
from tunery.text.sameness import essence, fingerprint, words_alone


@dataclass(frozen=True, slots=True)
class Likeness:
    """Prompts compared with each other."""

    words: Sequence[str]
    """Each prompt's words alone."""
    same: Sequence[Sequence[int]]
    """Positions of rows whose prompts are the same, so that they have one answer; two at least, in order."""
    repeated: Sequence[Sequence[int]]
    """Those of rows whose prompts repeat each other as curation sees it: the same, or but for case and marks
    that only help reading."""
    near: Sequence[SimilarPair]
    """Similar prompts that differ, by the position of the first row with each."""


def compare_prompts(columns: Columns, threshold: float) -> Likeness:
    """Compare the prompts of all rows.

    Args:
        columns: The rows; empty prompts are like nothing.
        threshold: Jaccard similarity from which two prompts are near, in (0, 1].
    """
    words = [words_alone(text) for text in columns.prompts]
    places: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(words):
        if text:
            places[text].append(i)
    same, repeated, near = [], [], []
    for rows in places.values():
        for said in _by(essence, columns, rows):
            groups = _by(fingerprint, columns, said)
            same += [group for group in groups if len(group) > 1]
            repeated += [said] if len(said) > 1 else []
            near += [SimilarPair(said[0], group[0], 1.0) for group in groups[1:]]
    first = [rows[0] for rows in places.values()]
    near += [
        SimilarPair(first[p.first], first[p.second], p.similarity)
        for p in similar_pairs(list(places), threshold)
    ]
    return Likeness(words, same, repeated, near)


def _by(key: Callable[[str], str], columns: Columns, rows: Sequence[int]) -> list[list[int]]:
    """Return rows of the same words, grouped by what else their prompts have in common."""
    if len(rows) < 2:
        return [[*rows]]
    groups: dict[str, list[int]] = defaultdict(list)
    for i in rows:
        groups[key(columns.prompts[i])].append(i)
    return list(groups.values())
