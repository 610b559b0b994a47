"""Near-duplicates: pairs of texts whose character shingles overlap."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

SHINGLE_CHARS = 4
"""Short enough that one changed word leaves a short question similar, long enough that two questions of one
topic are not (on BANKING77: 2-3 % of pairs from 0.8 up carry different labels; word sets give 8 %)."""
_PERMUTATIONS = 128
_BANDS = 32
"""Bands of 4 values each: a pair of similarity s is found with probability 1 - (1 - s^4)^32, which is over
0.9999 at 0.8."""
_SEED = 42
_BOILERPLATE_SHARE = 0.2
_BOILERPLATE_ROWS = 20
_SAMPLE = 5000
_CHUNK = 20_000


class Pair(NamedTuple):
    """Two similar texts."""

    first: int
    """Position of the earlier one."""
    second: int
    similarity: float
    """Jaccard index of their shingle sets, exact, in [0, 1]."""


def similar_pairs(texts: Sequence[str], threshold: float) -> list[Pair]:
    """Find pairs of texts that share at least ``threshold`` of their shingles.

    Candidates come from MinHash signatures cut into bands; each is then verified exactly, so no reported pair
    is wrong. Within a band's bucket a text is compared with the bucket's first and its own predecessor only,
    which keeps the work linear when thousands of texts resemble each other; chains of such pairs still join
    them. Shingles that over a fifth of the texts have (an instruction repeated in every row) do not count.

    Args:
        texts: Fingerprints, all different, in row order.
        threshold: Jaccard index, in (0, 1].

    Returns:
        Pairs sorted by position.

    Source:
        Broder (1997), On the resemblance and containment of documents; banding as in Leskovec, Rajaraman and
        Ullman, Mining of Massive Datasets, section 3.4.
    """
    common = _boilerplate(texts)
    found = []
    cache: dict[int, frozenset[str]] = {}
    for first, second in _candidates(texts, common):
        # Candidates are sorted by their first text, so earlier ones are not needed again.
        if len(cache) > _CHUNK:
            cache.clear()
        a = cache.get(first) or cache.setdefault(first, shingles(texts[first]) - common)
        b = cache.get(second) or cache.setdefault(second, shingles(texts[second]) - common)
        similarity = jaccard(a, b)
        if similarity >= threshold:
            found.append(Pair(first, second, similarity))
    return found


def shingles(text: str) -> frozenset[str]:
    """Return the set of overlapping pieces of four characters; a shorter text is its own only piece."""
    last = len(text) - SHINGLE_CHARS
    if last <= 0:
        return frozenset((text,))
    return frozenset(text[i : i + SHINGLE_CHARS] for i in range(last + 1))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the share of common elements among all elements; two empty sets have nothing in common.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    common = len(a & b)
    return common / (len(a) + len(b) - common) if common else 0.0


def _boilerplate(texts: Sequence[str]) -> frozenset[str]:
    """Return shingles that over a fifth of the texts have, estimated from a sample spread over them."""
    step = max(1, len(texts) // _SAMPLE)
    sample = texts[::step]
    counts = Counter(s for text in sample for s in shingles(text))
    limit = max(_BOILERPLATE_ROWS, _BOILERPLATE_SHARE * len(sample))
    return frozenset(s for s, count in counts.items() if count > limit)


def _candidates(texts: Sequence[str], common: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs that share a band, each once, sorted."""
    bands, rows = _bands(texts, common)
    pairs: set[tuple[int, int]] = set()
    for band in bands.T:
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][:1] + 1))
        lengths = np.diff(np.append(starts, len(order)))
        for i in np.flatnonzero(lengths > 1):
            members = rows[order[starts[i] : starts[i] + lengths[i]]].tolist()
            pairs.update((members[0], other) for other in members[1:])
            pairs.update(itertools.pairwise(members[1:]))
    yield from sorted(pairs)


def _bands(
    texts: Sequence[str], common: frozenset[str]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return band keys of shape ``(n, bands)``, and which ``n`` texts have shingles left."""
    keys, rows = [np.empty((0, _BANDS), dtype=np.uint64)], []
    for start in range(0, len(texts), _CHUNK):
        sets = [shingles(t) - common for t in texts[start : start + _CHUNK]]
        present = [i for i, s in enumerate(sets) if s]
        if not present:
            continue
        matrix = RMinHash.digest_matrix_from_token_sets(
            [list(sets[i]) for i in present], _PERMUTATIONS, _SEED
        )
        signatures = np.asarray(matrix.to_rows(), dtype=np.uint64)
        keys.append(_fold(signatures.reshape(len(present), _BANDS, _PERMUTATIONS // _BANDS)))
        rows += [start + i for i in present]
    return np.concatenate(keys), np.asarray(rows, dtype=np.int64)


def _fold(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix the last axis into one 64-bit key each; a rare collision only costs one comparison."""
    mixed = np.zeros(values.shape[:-1], dtype=np.uint64)
    for i in range(values.shape[-1]):
        mixed = (mixed ^ values[..., i]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
