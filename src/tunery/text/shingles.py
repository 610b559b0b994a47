"""Shingles: texts as sets of hashed four-character pieces, many texts in two flat arrays."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SHINGLE_CHARS = 4
"""Short enough that one changed word leaves a short question similar, long enough that two questions of one
topic are not (on BANKING77: 2-3 % of pairs from 0.8 up carry different labels; word sets give 8 %)."""
_HASH_BITS = 31
"""So that a hash is a column number of a sparse matrix. Two different pieces of two short texts share one in
about a hundred thousand comparisons, and then the similarity is off by one piece."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_FINISH = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_PAIRS_AT_ONCE = 20_000


class ShingleSets(NamedTuple):
    """The set of each text: ``hashes[offsets[i]:offsets[i + 1]]``, ascending and distinct."""

    hashes: npt.NDArray[np.int32]
    """All sets, one after the other."""
    offsets: npt.NDArray[np.int64]
    """Shape ``(texts + 1,)``."""

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.offsets) - 1

    def of(self, text: int) -> npt.NDArray[np.int32]:
        """Return the set of one text."""
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]

    def sizes(self) -> npt.NDArray[np.int64]:
        """Return the number of distinct shingles of each text, shape ``(texts,)``."""
        return np.diff(self.offsets)


def shingle_sets(texts: Sequence[str]) -> ShingleSets:
    """Hash every overlapping piece of four characters; a shorter text is its own only piece.

    Args:
        texts: Fingerprints; a few thousand at a time keep the work in the processor's cache.
    """
    padded = [t if len(t) >= SHINGLE_CHARS else t.ljust(SHINGLE_CHARS, "\0") for t in texts]
    pieces = np.fromiter((len(t) - SHINGLE_CHARS + 1 for t in padded), dtype=np.int64, count=len(padded))
    # Pieces that begin in one text and end in the next are computed and left out.
    characters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    hashes = _rolling(characters.astype(np.uint64))
    owner = np.repeat(np.arange(len(padded), dtype=np.uint64), pieces)
    places = np.arange(len(owner), dtype=np.int64) + (SHINGLE_CHARS - 1) * owner.astype(np.int64)
    keys = (owner << _HALF) | (hashes[places] >> np.uint64(64 - _HASH_BITS))
    keys = distinct(keys)
    counts = np.bincount((keys >> _HALF).astype(np.int64), minlength=len(padded))
    return ShingleSets((keys & np.uint64(0xFFFFFFFF)).astype(np.int32), _offsets(counts))


def distinct(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the different keys, ascending; sorting beats ``np.unique``'s hash table at this size tenfold."""
    keys.sort()
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def _rolling(characters: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of the four characters from each place on; nothing for fewer than four."""
    count = len(characters) - SHINGLE_CHARS + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    mixed = characters[:count] * _MULTIPLIER
    for i in range(1, SHINGLE_CHARS):
        mixed += characters[i : i + count]
        mixed *= _MULTIPLIER
    mixed ^= mixed >> _HALF
    mixed *= _FINISH
    return mixed ^ (mixed >> _HALF)


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


def joined(parts: Iterable[ShingleSets]) -> ShingleSets:
    """Return the sets of several runs of texts as one."""
    every = list(parts)
    if not every:
        return ShingleSets(np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int64))
    return ShingleSets(
        np.concatenate([p.hashes for p in every]), _offsets(np.concatenate([p.sizes() for p in every]))
    )


def without(sets: ShingleSets, common: npt.NDArray[np.int32]) -> ShingleSets:
    """Return the sets less the shingles in ``common`` (ascending)."""
    if not len(common) or not len(sets.hashes):
        return sets
    place = np.minimum(np.searchsorted(common, sets.hashes), len(common) - 1)
    keep = common[place] != sets.hashes
    counts = np.diff(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(keep)])[sets.offsets])
    return ShingleSets(sets.hashes[keep], _offsets(counts))


def boilerplate(sample: ShingleSets, *, share: float, at_least: int) -> npt.NDArray[np.int32]:
    """Return shingles that more than ``share`` of the texts, and more than ``at_least``, have; ascending."""
    values, counts = np.unique(sample.hashes, return_counts=True)
    return values[counts > max(at_least, share * len(sample))]


def jaccards(
    sets: ShingleSets, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the share of common shingles among all shingles of each pair of texts.

    Args:
        sets: All texts.
        first: Position of one text of each pair, shape ``(pairs,)``.
        second: Of the other.

    Returns:
        Shape ``(pairs,)``, in [0, 1]; two empty sets have nothing in common.
    """
    from scipy import sparse

    # A row is a set; the product of two rows keeps what both have. SciPy merges sorted rows in C.
    ones = np.ones(len(sets.hashes), dtype=np.int8)
    # Offsets of the hashes' own width where they fit: SciPy would widen, and so copy, all hashes.
    offsets = sets.offsets.astype(np.int32) if len(ones) < 2**31 else sets.offsets
    rows = sparse.csr_array((ones, sets.hashes, offsets), shape=(len(sets), 2**_HASH_BITS - 1))
    rows.has_canonical_format = True
    sizes = sets.sizes()
    found = np.empty(len(first), dtype=np.float64)
    for part in _slices(len(first), _PAIRS_AT_ONCE):
        a, b = first[part], second[part]
        common = np.diff(rows[a].multiply(rows[b]).indptr)
        either = sizes[a] + sizes[b] - common
        found[part] = np.divide(common, either, out=np.zeros(len(a)), where=common > 0)
    return found


def _slices(count: int, step: int) -> Iterator[slice]:
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


def batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield runs of ``size`` texts, the last one shorter."""
    iterator = iter(texts)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
