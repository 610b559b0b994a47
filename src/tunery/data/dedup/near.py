"""Duplicates: rows that say what an earlier row says, and groups that must share a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tunery.text.minhash import Integers, Keys, Pairs, Sketch
from tunery.text.normalise import fingerprint
from tunery.text.shingles import jaccards, shingle_sets

_BLOCK = 200_000


class Keeper(NamedTuple):
    """The earlier row that a near-duplicate repeats."""

    row: int
    similarity: float


class AnswerKeys(NamedTuple):
    """What tells whether two similar prompts want the same answer."""

    numbers: Keys
    """Hash of the numbers in a row, 0 for none."""
    turns: Integers
    """Turns of the conversation [count]."""
    exact: Keys
    """Hash of the answer, and of the one not preferred."""
    texts: Callable[[int], Sequence[str]] | None
    """Answer and, in a pair, the one not preferred; None for classes, of which only equal ones count."""

    def same(self, a: int, b: int, threshold: float) -> bool:
        """Tell whether rows ``a`` and ``b`` have the same numbers and (nearly) the same answers."""
        if self.numbers[a] != self.numbers[b] or self.turns[a] != self.turns[b]:
            return False
        if self.exact[a] == self.exact[b]:
            return True
        if self.texts is None:
            return False
        return all(
            x == y or alike(x, y) >= threshold for x, y in zip(self.texts(a), self.texts(b), strict=True)
        )


def alike(a: str, b: str) -> float:
    """Return the Jaccard index of two texts' shingles, case and punctuation aside."""
    one, two = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    return float(jaccards(shingle_sets([fingerprint(a), fingerprint(b)]), one, two)[0])


def near_keepers(pairs: Pairs, answers: AnswerKeys, sketch: Sketch, *, drop_from: float) -> dict[int, Keeper]:
    """Find rows that repeat an earlier kept row; never by way of a third row only.

    Args:
        pairs: Similar prompts, positions among all rows of ``sketch``.
        answers: Of the same rows.
        sketch: For the similarity of rows that are no pair.
        drop_from: Similarity from which a row repeats another.

    Returns:
        Row to the row that it repeats, which is itself kept.
    """
    close = pairs.where(pairs.similarity >= drop_from)
    if not len(close):
        return {}
    order = np.lexsort((close.first, close.second))
    close = Pairs(close.first[order], close.second[order], close.similarity[order])
    # A row whose neighbour has gone is held against the row that the neighbour repeats. That is most often
    # the neighbour's first neighbour, so those similarities are computed in one go.
    earliest = np.arange(len(sketch.sets), dtype=np.int64)
    np.minimum.at(earliest, close.second, close.first)
    through = earliest[close.first]
    indirect = jaccards(sketch.sets, through, close.second)
    keepers: dict[int, Keeper] = {}
    for start in range(0, len(close), _BLOCK):
        part = slice(start, start + _BLOCK)
        block = zip(*(c[part].tolist() for c in (*close, through, indirect)), strict=True)
        for first, second, direct, by_way_of, beyond in block:
            if second in keepers:
                continue
            keeper, similarity = first, direct
            if first in keepers:
                keeper = keepers[first].row
                similarity = beyond if keeper == by_way_of else _one(sketch, keeper, second)
            if similarity >= drop_from and answers.same(keeper, second, drop_from):
                keepers[second] = Keeper(keeper, similarity)
    return keepers


def _one(sketch: Sketch, a: int, b: int) -> float:
    """Return what :func:`jaccards` does for one pair, without laying out all sets for it."""
    one, two = sketch.sets.of(a), sketch.sets.of(b)
    common = len(np.intersect1d(one, two, assume_unique=True))
    return common / (len(one) + len(two) - common) if common else 0.0
