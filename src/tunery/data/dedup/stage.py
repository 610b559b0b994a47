"""Deduplication of rows: those that repeat an earlier one go, and those that resemble one are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from tunery.core.errors import listed
from tunery.core.example import Drop, Example, prompt_text
from tunery.core.figures import percent
from tunery.data.decisions import Curated
from tunery.data.rows.identity import said_prompt, same_prompt
from tunery.data.workers import spread
from tunery.text.minhash import (
    SAMPLE,
    Integers,
    Keys,
    Pairs,
    Sketch,
    close_pairs,
    combined,
    common_shingles,
    first_of_key,
    make_sketch,
    no_pairs,
)
from tunery.text.normalise import hash64
from tunery.text.sameness import repeats, signs, words_alone
from tunery.text.shingles import jaccards, shingle_sets

_BLOCK = 200_000
_AT_ONCE = 5000
"""Rows read once more together."""


class NearRows(NamedTuple):
    """Rows whose prompts resemble each other."""

    pairs: Pairs
    """Similar rows, by position."""
    repeats: dict[int, Drop]
    """Position of each row that repeats an earlier one to why it goes."""


def drop_exact(curated: Curated) -> Integers:
    """Remove rows whose prompt and answer repeat an earlier row's; return pairs of equal prompts.

    Prompts are compared as :mod:`tunery.data.rows.identity` says, answers letter by letter. Equal prompts
    with different answers both stay: which of them is right is for a person to say.
    """
    kept = curated.kept
    prompts = _prompts(curated)
    first = first_of_key(_keys(prompts.said, curated.rows.numbers("answer_key")[kept]))
    repeats = np.flatnonzero(first != np.arange(len(kept)))
    same = first_of_key(prompts.same)
    others = np.flatnonzero((same != np.arange(len(kept))) & (first == np.arange(len(kept))))
    if len(others) and not curated.judged:  # several judged answers to a prompt contradict nothing
        curated.warnings.append(_conflicts(curated, kept[same[others]], kept[others]))
    if curated.config.clean.exact_duplicates:
        curated.drop(
            {
                int(kept[i]): Drop("exact_duplicate", f"repeats {curated.where(int(kept[first[i]]))}")
                for i in repeats
            }
        )
    else:
        others = np.flatnonzero(same != np.arange(len(kept)))
    return np.stack([kept[same[others]], kept[others]], axis=1)


class _Prompts(NamedTuple):
    """Keys of each kept row's prompt, shape ``(rows,)``."""

    said: Keys
    """Equal where one repeats the other."""
    same: Keys
    """Equal where they are the same."""


def _prompts(curated: Curated) -> _Prompts:
    """Return the keys of prompts: only rows whose words are the same are read once more."""
    wide = curated.rows.numbers("prompt_key")[curated.kept]
    twins = _of_several(wide)
    both = [(hash64(said_prompt(e)), hash64(same_prompt(e))) for e in _again(curated, curated.kept[twins])]
    found = np.array(both, dtype=np.uint64).reshape(-1, 2)
    said, same = wide.copy(), wide.copy()
    said[twins] = _keys(wide[twins], found[:, 0])
    same[twins] = _keys(wide[twins], found[:, 1])
    return _Prompts(said, same)


def _of_several(keys: Keys) -> Integers:
    """Return the places of keys that occur more than once."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.flatnonzero(counts[inverse] > 1)


def _keys(*parts: Keys) -> Keys:
    """Return one key for each row of several, each of shape ``(rows,)``."""
    mixed = np.zeros(len(parts[0]), dtype=np.uint64)
    for part in parts:
        mixed = (mixed ^ part) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _again(curated: Curated, positions: Integers) -> Iterator[Example]:
    """Yield rows at ascending positions, some thousand in memory at a time."""
    for start in range(0, len(positions), _AT_ONCE):
        yield from curated.rows.examples(positions[start : start + _AT_ONCE].tolist())


def _conflicts(curated: Curated, first: Integers, second: Integers) -> str:
    number = curated.row_number
    some = [f"rows {number(a)} and {number(b)}" for a, b in zip(first[:5], second[:5], strict=True)]
    pairs = listed(some, 5, total=len(first))
    what = "1 prompt has" if len(first) == 1 else f"{len(first)} prompts have"
    return f"{what} different answers in different rows ({pairs}); all are kept, in one split"


def find_near(curated: Curated) -> NearRows:
    """Find rows that resemble each other, among those that :func:`drop_exact` left."""
    clean = curated.config.clean
    if clean.near_duplicates == "off":
        return NearRows(no_pairs(), {})
    # Rows of the same words are the exact search's business: what it left differs in its answers or signs.
    texts = curated.rows.numbers("text_key")[curated.kept]
    first = first_of_key(texts)
    originals = curated.kept[np.flatnonzero(first == np.arange(len(first)))]
    repeats = np.flatnonzero(first != np.arange(len(first)))
    same = Pairs(curated.kept[first[repeats]], curated.kept[repeats], np.ones(len(repeats)))
    sketch = _sketch(curated, originals)
    pairs = close_pairs(sketch, clean.group_threshold)
    drops = {}
    if clean.near_duplicates == "drop":
        close = pairs.where(pairs.similarity >= clean.near_threshold)
        answers = _answers(curated, originals, np.unique(np.concatenate([close.first, close.second])))
        keepers = near_keepers(pairs, answers, sketch, drop_from=clean.near_threshold)
        for second, keeper in keepers.items():
            where = curated.where(int(originals[keeper.row]))
            drops[int(originals[second])] = Drop(
                "near_duplicate", f"{percent(keeper.similarity)} like {where}, with the same answer"
            )
    near = Pairs(originals[pairs.first], originals[pairs.second], pairs.similarity)
    return NearRows(Pairs(*(np.concatenate(columns) for columns in zip(same, near, strict=True))), drops)


def _sketch(curated: Curated, originals: Integers) -> Sketch:
    rows = curated.rows
    sample = originals[:: max(1, len(originals) // SAMPLE)]
    common = common_shingles(rows.column("text").take(sample).to_pylist())
    sketches = spread(make_sketch, rows.texts(originals), common, engine=curated.config.engine)
    characters = pc.sum(pc.utf8_length(rows.column("text"))).as_py()
    return combined(sketches, texts=len(originals), characters=characters)


def _answers(curated: Curated, originals: Integers, close: Integers) -> AnswerKeys:
    """Return what tells near rows apart; ``close`` are the places of those that may repeat another."""
    rows = curated.rows
    numbers, turns, exact = (rows.numbers(n)[originals] for n in ("numbers_key", "turns", "answer_key"))
    marks = np.zeros(len(originals), dtype=np.uint64)
    found = (hash64(signs(prompt_text(e))) for e in _again(curated, originals[close]))
    marks[close] = np.fromiter(found, dtype=np.uint64, count=len(close))
    if curated.labels is not None:
        return AnswerKeys(numbers, marks, turns, exact, None)

    def texts(i: int) -> Sequence[str]:
        (example,) = rows.examples([int(originals[i])])
        return example.answers

    return AnswerKeys(numbers, marks, turns, exact, texts)


class Keeper(NamedTuple):
    """The earlier row that a near-duplicate repeats."""

    row: int
    similarity: float


class AnswerKeys(NamedTuple):
    """What tells whether two similar prompts want the same answer."""

    numbers: Keys
    """Hash of the numbers in a row, 0 for none."""
    signs: Keys
    """Hash of the marks and numbers of the prompt that mean something."""
    turns: Integers
    """Turns of the conversation [count]."""
    exact: Keys
    """Hash of the answer, and of the one not preferred."""
    texts: Callable[[int], Sequence[str]] | None
    """As an example's ``answers``; None for classes, of which only equal ones count."""

    def same(self, a: int, b: int, threshold: float) -> bool:
        """Tell whether rows ``a`` and ``b`` have the same numbers, signs and (nearly) the same answers."""
        if any(column[a] != column[b] for column in (self.numbers, self.signs, self.turns)):
            return False
        if self.exact[a] == self.exact[b]:
            return True
        if self.texts is None:
            return False
        mine, others = self.texts(a), self.texts(b)
        return mine[2:] == others[2:] and all(
            x == y or (alike(x, y) >= threshold and repeats(x, y))
            for x, y in zip(mine[:2], others[:2], strict=True)
        )


def alike(a: str, b: str) -> float:
    """Return the Jaccard index of two texts' shingles, case and punctuation aside."""
    one, two = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    return float(jaccards(shingle_sets([words_alone(a), words_alone(b)]), one, two)[0])


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
