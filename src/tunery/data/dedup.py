"""Duplicates: rows that say what an earlier row says, and groups that must share a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tunery.core.example import Example, prompt_text
from tunery.text.minhash import Integers, Keys, Pairs, Sketch, join
from tunery.text.normalise import fingerprint, hash64
from tunery.text.shingles import jaccards, shingle_sets

_BLOCK = 200_000


class Keeper(NamedTuple):
    """The earlier row that a near-duplicate repeats."""

    row: int
    similarity: float


class Answers(NamedTuple):
    """What tells whether two similar prompts are asked for the same thing."""

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


def prompt_print(example: Example) -> str:
    """Return 16 hex digits that name a prompt, whatever its case, spacing and punctuation."""
    return f"{hash64(fingerprint(prompt_text(example))):016x}"


def alike(a: str, b: str) -> float:
    """Return the Jaccard index of two texts' shingles, case and punctuation aside."""
    one, two = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    return float(jaccards(shingle_sets([fingerprint(a), fingerprint(b)]), one, two)[0])


def near_keepers(pairs: Pairs, answers: Answers, sketch: Sketch, *, drop_from: float) -> dict[int, Keeper]:
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


def group_rows(count: int, firm: Integers, near: Pairs, *, largest: int, strict: float) -> Integers:
    """Return for each row the first row of the group it shares a split with: all that hangs together.

    Similarity is not transitive: a chain of rewordings can tie half a dataset of one template together, and
    then nothing could be held out. Inside a group of more than ``largest`` rows only ``strict`` pairs hold.

    Args:
        count: Rows.
        firm: Pairs that must stay together whatever the group's size, shape ``(pairs, 2)``.
        near: Similar pairs.
        largest: Group size from which similarity must be strict [rows].
        strict: Similarity that holds in large groups too.
    """
    held = _held(count, firm, near, largest=largest, strict=strict)
    return join(count, np.concatenate([firm, np.stack([held.first, held.second], axis=1)]))


def follow_earliest(
    count: int, firm: Integers, near: Pairs, *, largest: Callable[[int], int], strict: float
) -> tuple[Integers, Pairs]:
    """Return groups that later rows cannot change, and the near pairs that hold.

    Rows that ``firm`` ties together are one group. A group joins the one of the earliest row that its own
    first row resembles. Nothing here depends on rows further down, so rows added at the end leave earlier
    rows where they were; a row that resembles two groups is in one of them, and if they end up in different
    splits it must go.

    Args:
        count: Rows.
        firm: As in :func:`group_rows`.
        near: Similar pairs; the first of each lies before the second.
        largest: Number of rows so far to the size that a group may have by then before only ``strict`` pairs
            hold a further row to it [rows].
        strict: As in :func:`group_rows`.

    Returns:
        For each row the first row of its group; the pairs of which no two rows may be in different splits.
    """
    tied = join(count, firm)
    group, sizes = tied.tolist(), [1] * count
    order = np.lexsort((near.first, near.second))
    seconds, starts = np.unique(near.second[order], return_index=True)
    bounds = [*starts.tolist(), len(order)]
    candidates = dict(zip(seconds.tolist(), pairwise(bounds), strict=True))
    firsts, alikes = near.first[order].tolist(), near.similarity[order].tolist()
    followers = np.flatnonzero(tied != np.arange(count)).tolist()
    holds = np.zeros(len(order), dtype=bool)
    for row in sorted({*candidates, *followers}):
        most = largest(row + 1)
        joined = group[group[row]]  # of the row it is tied to, or itself
        for at in range(*candidates.get(row, (0, 0))):
            other = group[firsts[at]]
            if sizes[other] > most and alikes[at] < strict:
                continue
            holds[at] = True
            if joined == row:
                joined = other
        group[row] = joined
        if joined != row:
            sizes[joined] += 1
    return np.array(group, dtype=np.int64), near.where(np.isin(np.arange(len(order)), order[holds]))


def _held(count: int, firm: Integers, near: Pairs, *, largest: int, strict: float) -> Pairs:
    roots = join(count, np.concatenate([firm, np.stack([near.first, near.second], axis=1)]))
    sizes = np.bincount(roots, minlength=count)
    return near.where((sizes[roots[near.first]] <= largest) | (near.similarity >= strict))
