"""Text features: each text as a short vector of hashed TF-IDF weights, cheap for many texts."""

from __future__ import annotations

import itertools
import zlib
from array import array
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunery.text.sameness import words_alone

Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

_STEM_CHARS = 5
_CHUNK = 4096
_SAMPLE = 2048
_POWER_STEPS = 8


def hashed_tfidf(texts: Sequence[str], dimensions: int = 1024) -> Vectors:
    """Return unit vectors whose dot product says how many rare words two texts share.

    Terms are words, beginnings of words (so that "transfer" meets "transferred") and pairs of neighbouring
    words. A term's weight is (1 + ln count) times its smoothed inverse document frequency; a term of one text
    only is left out, because nothing can match it. Terms fall on a position and a sign by their checksum,
    which keeps dot products right on average: their error is about 1 / sqrt(dimensions).

    Args:
        texts: Any texts.
        dimensions: Length of a vector; a power of two spreads evenly.

    Returns:
        Shape ``(n, dimensions)``; a text without any shared term is a row of zeros.

    Source:
        Weinberger et al. (2009), Feature Hashing for Large Scale Multitask Learning, arXiv 0902.2206, eq. 2;
        smoothed IDF as scikit-learn's ``TfidfVectorizer`` computes it.

    >>> a, b, c = hashed_tfidf(["my card is lost", "my card was lost", "top up failed"])
    >>> bool(a @ b > a @ c)
    True
    """
    vocabulary: dict[str, int] = {}
    terms, lengths = array("q"), array("q")
    for text in texts:
        found = _terms(text)
        terms.extend(vocabulary.setdefault(term, len(vocabulary)) for term in found)
        lengths.append(len(found))
    rows, ids, counts = _counts(terms, lengths, max(1, len(vocabulary)))
    frequency = np.bincount(ids, minlength=len(vocabulary))
    hashes = np.fromiter((zlib.crc32(t.encode()) for t in vocabulary), dtype=np.int64, count=len(vocabulary))
    kept = frequency[ids] > 1
    rows, ids, counts = rows[kept], ids[kept], counts[kept]
    idf = np.log((1 + len(texts)) / (1 + frequency)) + 1
    # The sign comes from the hash's top bit, the position from the others.
    sign = np.where(hashes >> 31 & 1, -1.0, 1.0)
    weights = (1 + np.log(counts)) * (idf * sign)[ids]
    return _dense(rows, hashes[ids] % dimensions, weights, (len(texts), dimensions))


def _terms(text: str) -> list[str]:
    words = words_alone(text).split()
    stems = [f"{w[:_STEM_CHARS]}*" for w in words]
    return words + stems + [f"{a} {b}" for a, b in itertools.pairwise(words)]


def _counts(
    terms: array[int], lengths: array[int], width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (text, term, times) of every term that a text has, sorted."""
    flat = np.frombuffer(terms, dtype=np.int64) if len(terms) else np.empty(0, dtype=np.int64)
    owners = np.repeat(np.arange(len(lengths)), np.array(lengths, dtype=np.int64))
    keys, counts = np.unique(owners * width + flat, return_counts=True)
    return keys // width, keys % width, counts


def _dense(
    rows: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    shape: tuple[int, int],
) -> Vectors:
    """Add weights up at their places and scale each row to length one."""
    vectors = np.zeros(shape, dtype=np.float32)
    count, width = shape
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        a, b = np.searchsorted(rows, (start, stop))
        flat = (rows[a:b] - start) * width + places[a:b]
        chunk = np.bincount(flat, weights=weights[a:b], minlength=(stop - start) * width)
        vectors[start:stop] = chunk.reshape(stop - start, width)
    return unit(vectors)


def unit(vectors: Vectors) -> Vectors:
    """Return rows scaled to length one, in place; a row of zeros stays."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, norms, out=vectors, where=norms > 0)
    return vectors


def blocks(vectors: Vectors, members: Positions, largest: int = 1024) -> list[Positions]:
    """Cut rows into blocks of rows that are alike, so that work inside a block may be quadratic.

    A set too large is cut in two equal halves along the direction in which it varies most, and so are its
    halves. Blocks are sorted inside, so that earlier rows come first.

    Args:
        vectors: Rows of features, shape ``(n, dimensions)``.
        members: Positions to divide.
        largest: Rows a block may have at most [count].

    Returns:
        Positions; every member is in exactly one block.
    """
    if len(members) <= largest:
        return [np.sort(members)]
    along = vectors[members] @ _main_direction(vectors[members[:: max(1, len(members) // _SAMPLE)]])
    order = members[np.argsort(along, kind="stable")]
    half = len(order) // 2
    return [*blocks(vectors, order[:half], largest), *blocks(vectors, order[half:], largest)]


def _main_direction(sample: Vectors) -> Vectors:
    """Return roughly the direction of largest variance, by power steps from the row farthest out."""
    centred = sample - sample.mean(axis=0)
    direction: Vectors = centred[int(np.linalg.norm(centred, axis=1).argmax())]
    for _ in range(_POWER_STEPS):
        direction = centred.T @ (centred @ direction)
        norm = float(np.linalg.norm(direction))
        if norm == 0:
            break
        direction = direction / norm
    return direction
