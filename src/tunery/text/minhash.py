"""Near-duplicates: pairs of texts whose shingles overlap, found in linear time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunery.text.shingles import (
    SHINGLE_CHARS,
    ShingleSets,
    batched,
    boilerplate,
    distinct,
    jaccards,
    joined,
    shingle_sets,
    without,
)

_PERMUTATIONS = 128
_BANDS = 32
"""Bands of 4 values each: a pair of similarity s is found with probability 1 - (1 - s^4)^32, which is over
0.9999 at 0.8."""
_SEED = 42
_BOILERPLATE_SHARE = 0.2
_BOILERPLATE_ROWS = 20
_PREDECESSORS = 2
"""Texts of its bucket that a text is compared with, besides the bucket's first."""
_MOST_OF_BUCKET = 8
"""Known texts of one bucket that a text is held against [count]."""
SAMPLE = 5000
"""Texts that boilerplate is estimated from."""
_VERIFIED_AT_ONCE = 1_000_000
_BATCH = 2000
"""Texts hashed at once: some 200,000 shingles, which stay in the processor's cache."""


class SimilarPair(NamedTuple):
    """Two similar texts."""

    first: int
    """Position of the earlier one."""
    second: int
    similarity: float
    """Jaccard index of their shingle sets, in [0, 1]."""


class Sketch(NamedTuple):
    """What a run of texts is compared by."""

    sets: ShingleSets
    """Boilerplate left out."""
    bands: npt.NDArray[np.uint32]
    """Keys of shape ``(bands, texts)``: texts that share a band's key are compared."""


class Pairs(NamedTuple):
    """Similar texts, column by column, sorted by ``first``, then ``second``."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """Return the chosen pairs."""
        return Pairs(self.first[chosen], self.second[chosen], self.similarity[chosen])


def no_pairs() -> Pairs:
    """Return an empty set of pairs."""
    none = np.empty(0, dtype=np.int64)
    return Pairs(none, none, np.empty(0, dtype=np.float64))


def similar_pairs(texts: Sequence[str], threshold: float) -> list[SimilarPair]:
    """Find pairs of texts that share at least ``threshold`` of their shingles.

    Candidates come from MinHash signatures cut into bands; each is then verified on the sets themselves, so
    no reported pair is wrong. Within a band's bucket a text is compared with the bucket's first and its own
    two predecessors only, which keeps the work linear when thousands of texts resemble each other; chains of
    such pairs still join them. What a text is compared with lies before it, so later texts change no pair of
    earlier ones. Shingles that over a fifth of the texts have (an instruction repeated in every row) do not
    count.

    Args:
        texts: Fingerprints, all different, in row order.
        threshold: Jaccard index, in (0, 1].

    Returns:
        Pairs sorted by position.

    Source:
        Broder (1997), On the resemblance and containment of documents; banding as in Leskovec, Rajaraman and
        Ullman, Mining of Massive Datasets, section 3.4.
    """
    pairs = close_pairs(make_sketch(texts, common_shingles(texts)), threshold)
    return [SimilarPair(*row) for row in zip(*(column.tolist() for column in pairs), strict=True)]


def close_to(known: Sequence[str], texts: Sequence[str], threshold: float) -> Pairs:
    """Find the known texts that share at least ``threshold`` of their shingles with each of ``texts``.

    As :func:`similar_pairs`, but only between the two runs of texts: a text is held against the known ones
    that share a band with it, at most :data:`_MOST_OF_BUCKET` of each, whatever lies between them.

    Args:
        known: Fingerprints, in any order.
        texts: Fingerprints.
        threshold: Jaccard index, in (0, 1].

    Returns:
        ``first`` is a place in ``known``, ``second`` one in ``texts``.
    """
    every, count = [*known, *texts], len(known)
    sketch = make_sketch(every, common_shingles(every))
    there = np.flatnonzero(sketch.sets.sizes() > 0)
    left, right = there[there < count], there[there >= count]
    codes = np.empty(0, dtype=np.uint64)
    for band in sketch.bands:
        order = left[np.argsort(band[left], kind="stable")]
        low, high = (np.searchsorted(band[order], band[right], side) for side in ("left", "right"))
        for place in range(min(_MOST_OF_BUCKET, int((high - low).max(initial=0)))):
            inside = np.flatnonzero(high - low > place)
            pairs = order[low[inside] + place].astype(np.uint64) << np.uint64(32)
            codes = distinct(np.concatenate([codes, pairs | right[inside].astype(np.uint64)]))
    found = _verified(sketch, codes, threshold)
    return Pairs(found.first, found.second - count, found.similarity)


def common_shingles(texts: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return shingles that over a fifth of the texts have, ascending, estimated from a sample."""
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    sets = joined(shingle_sets(batch) for batch in batched(sample, _BATCH))
    return boilerplate(sets, share=_BOILERPLATE_SHARE, at_least=_BOILERPLATE_ROWS)


def make_sketch(texts: Iterable[str], common: npt.NDArray[np.int32]) -> Sketch:
    """Return sets and band keys of a run of texts; runs may be sketched apart and combined later."""
    parts = [without(shingle_sets(batch), common) for batch in batched(texts, _BATCH)]
    keys = [_bands(part) for part in parts]
    return Sketch(
        joined(parts), np.concatenate(keys, axis=1) if keys else np.empty((_BANDS, 0), dtype=np.uint32)
    )


def combined(sketches: Iterable[Sketch], *, texts: int, characters: int) -> Sketch:
    """Return the sketches of several runs of texts as one, each let go of as soon as it is copied.

    Args:
        sketches: In the order of the texts.
        texts: How many there are at most.
        characters: How long they are together at most; memory that is not written to costs nothing.
    """
    hashes = np.empty(characters + SHINGLE_CHARS * texts, dtype=np.int32)
    offsets = np.zeros(texts + 1, dtype=np.int64)
    bands = np.empty((_BANDS, texts), dtype=np.uint32)
    count, used = 0, 0
    for sketch in sketches:
        more, pieces = len(sketch.sets), len(sketch.sets.hashes)
        hashes[used : used + pieces] = sketch.sets.hashes
        offsets[count + 1 : count + more + 1] = used + sketch.sets.offsets[1:]
        bands[:, count : count + more] = sketch.bands
        count, used = count + more, used + pieces
    return Sketch(ShingleSets(hashes[:used], offsets[: count + 1]), bands[:, :count])


def close_pairs(sketch: Sketch, threshold: float) -> Pairs:
    """Return all candidate pairs of at least ``threshold`` similarity; see :func:`similar_pairs`."""
    codes = _candidates(sketch)
    found = [
        _verified(sketch, codes[i : i + _VERIFIED_AT_ONCE], threshold)
        for i in range(0, len(codes), _VERIFIED_AT_ONCE)
    ]
    return Pairs(*map(np.concatenate, zip(*found, strict=True))) if found else no_pairs()


def _verified(sketch: Sketch, codes: npt.NDArray[np.uint64], threshold: float) -> Pairs:
    first, second = (codes >> np.uint64(32)).astype(np.int64), (codes & np.uint64(2**32 - 1)).astype(np.int64)
    # Sets of very different sizes cannot be alike: |smaller| / |larger| bounds the index from above.
    sizes = sketch.sets.sizes()
    a, b = sizes[first], sizes[second]
    possible = np.minimum(a, b) >= threshold * np.maximum(a, b)
    first, second = first[possible], second[possible]
    similarity = jaccards(sketch.sets, first, second)
    return Pairs(first, second, similarity).where(similarity >= threshold)


def _candidates(sketch: Sketch) -> npt.NDArray[np.uint64]:
    """Return ``first << 32 | second`` of every pair that shares a band, distinct, ascending."""
    present = np.flatnonzero(sketch.sets.sizes() > 0).astype(np.uint64)
    found = np.empty(0, dtype=np.uint64)
    for band in sketch.bands:
        keys = (band[present].astype(np.uint64) << np.uint64(32)) | present
        keys.sort()
        rows, bucket = keys & np.uint64(2**32 - 1), keys >> np.uint64(32)
        follows = np.flatnonzero(bucket[1:] == bucket[:-1]) + 1  # not the first of its bucket
        if not len(follows):
            continue
        starts = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]]))
        heads = starts[np.searchsorted(starts, follows, side="right") - 1]
        # The bucket's first, and those just before; where there are fewer, the first once more.
        near = [np.maximum(heads, follows - back) for back in range(1, _PREDECESSORS + 1)]
        pairs = np.concatenate([rows[heads], *(rows[n] for n in near)]) << np.uint64(32)
        pairs |= np.tile(rows[follows], 1 + _PREDECESSORS)
        found = distinct(np.concatenate([found, pairs]))
    return found


def _bands(sets: ShingleSets) -> npt.NDArray[np.uint32]:
    """Return band keys of shape ``(bands, texts)``; those of a text without shingles mean nothing."""
    present = sets.sizes() > 0
    keys = np.zeros((_BANDS, len(sets)), dtype=np.uint32)
    if not present.any():
        return keys
    starts, values = sets.offsets[:-1][present], sets.hashes.view(np.uint32)
    mixed = np.zeros(len(starts), dtype=np.uint64)
    for i, (mask, multiplier) in enumerate(_permutations()):
        # A hash, shifted and spread: each pair of constants orders the shingles in another way.
        spread = (values ^ mask) * multiplier
        spread ^= spread >> np.uint32(16)
        spread *= np.uint32(0x85EBCA6B)
        lowest = np.minimum.reduceat(spread, starts)
        mixed = (mixed ^ lowest) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        if (i + 1) % (_PERMUTATIONS // _BANDS) == 0:
            keys[i // (_PERMUTATIONS // _BANDS), present] = (mixed >> np.uint64(32)).astype(np.uint32)
            mixed = np.zeros(len(starts), dtype=np.uint64)
    return keys


def _permutations() -> Iterator[tuple[np.uint32, np.uint32]]:
    """Yield the constants of each hash function, the same on every machine."""
    state = _SEED
    for _ in range(_PERMUTATIONS):
        drawn = []
        for _ in range(2):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            drawn.append(state >> 32)
        yield np.uint32(drawn[0]), np.uint32(drawn[1] | 1)


Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def first_of_key(keys: Keys) -> Integers:
    """Return for each row the first row that has the same key.

    >>> first_of_key(np.array([7, 5, 7, 5], dtype=np.uint64)).tolist()
    [0, 1, 0, 1]
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def join(count: int, links: Integers) -> Integers:
    """Return for each of ``count`` rows the first row of its connected group.

    Args:
        count: Rows.
        links: Pairs of rows, shape ``(links, 2)``.

    >>> join(4, np.array([[0, 2], [2, 3]])).tolist()
    [0, 1, 0, 0]
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    if not len(links):
        return np.arange(count, dtype=np.int64)
    ones = np.ones(len(links), dtype=np.int8)
    graph = sparse.coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    return first_of_key(component.astype(np.uint64))
