"""Likeness: which prompts of a dataset say the same or nearly the same, found once for all who ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tunery.core.columns import Columns
from tunery.text.minhash import SimilarPair, similar_pairs
from tunery.text.normalise import fingerprint


@dataclass(frozen=True, slots=True)
class Likeness:
    """Prompts compared with each other."""

    fingerprints: Sequence[str]
    """Fingerprint of each prompt."""
    same: Sequence[Sequence[int]]
    """Positions of rows whose prompts share a fingerprint, two at least, in row order."""
    near: Sequence[SimilarPair]
    """Similar prompts that differ, by the position of the first row with each."""


def compare_prompts(columns: Columns, threshold: float) -> Likeness:
    """Compare the prompts of all rows.

    Args:
        columns: The rows; empty prompts are like nothing.
        threshold: Jaccard similarity from which two prompts are near, in (0, 1].
    """
    fingerprints = [fingerprint(text) for text in columns.prompts]
    places: dict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(fingerprints):
        if text:
            places[text].append(i)
    first = [rows[0] for rows in places.values()]
    near = [
        SimilarPair(first[p.first], first[p.second], p.similarity)
        for p in similar_pairs(list(places), threshold)
    ]
    return Likeness(fingerprints, [rows for rows in places.values() if len(rows) > 1], near)
