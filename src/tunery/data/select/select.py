"""Select: a small strong subset of the training rows, drawn by quality, by diversity or by both."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from tunery.core.columns import Columns
from tunery.core.ids import sampling_key
from tunery.data.config import SelectBy
from tunery.data.select.signals import Numbers, by_label, signals
from tunery.data.split.quotas import quotas
from tunery.text.embeddings import Encoder
from tunery.text.features import Positions, Vectors, blocks, hashed_tfidf, unit

_DOUBTFUL = 0.45
"""Quality under which a row is taken only when its class has no better one left."""
_DIMENSIONS = 1024
_MANY_ROWS = 50_000
"""From here features have half as many dimensions, which keeps them near 200 MB for 100,000 rows."""


def choose(
    columns: Columns,
    rows: int,
    by: SelectBy,
    *,
    scores: Sequence[float] | None = None,
    seed: int = 0,
    encode: Encoder | None = None,
) -> list[int]:
    """Choose a small strong subset of the train split.

    Classes keep their shares, each at least one row where there are rows enough. ``random`` draws by hash.
    ``quality`` takes the best rows. ``diversity`` takes rows that together resemble all rows of their class
    as well as possible (facility location), which passes over outliers and takes one of several copies.
    ``quality+diversity`` does the same among the rows that nothing speaks against, and counts good rows more.

    Args:
        columns: Rows of all splits; those outside the train split are never chosen.
        rows: How many to choose [count]; all where there are fewer.
        by: How.
        scores: One number a row, higher is better, such as ``quality_score`` of a base model's scores or a
            judge's 1 to 5. They rank the rows that the signals without a model let pass.
        seed: Another seed draws other rows among equals.
        encode: Text features; hashed TF-IDF where None.

    Returns:
        Sorted positions, ``min(rows, training rows)`` of them, all different.

    Source:
        Facility location with the lazy greedy algorithm: Minoux (1978), Accelerated greedy algorithms for
        maximizing submodular set functions; within 1 - 1/e of the optimum by Nemhauser et al. (1978).
    """
    train = [i for i, split in enumerate(columns.splits) if split == "train"]
    if rows >= len(train):
        return train
    pool = take(columns, train)
    given = None if scores is None else np.array([scores[i] for i in train], dtype=np.float64)
    return [train[i] for i in _choose(pool, rows, by, given, seed=seed, encode=encode)]


def take(columns: Columns, positions: Sequence[int]) -> Columns:
    """Return the rows at some positions, in that order."""
    every = {f.name: getattr(columns, f.name) for f in fields(Columns)}
    taken: dict[str, Any] = {n: None if c is None else [c[i] for i in positions] for n, c in every.items()}
    return Columns(**taken)


def _choose(
    pool: Columns, rows: int, by: SelectBy, scores: Numbers | None, *, seed: int, encode: Encoder | None
) -> list[int]:
    """Choose among rows that are all of the train split and more than ``rows``."""
    classes = by_label(pool, range(len(pool)))
    shares = _shares({name: len(members) for name, members in classes.items()}, rows)
    rank = {
        i: n for n, i in enumerate(sorted(range(len(pool)), key=lambda i: sampling_key(seed, "select", i)))
    }
    if by == "random":
        drawn = [sorted(members, key=rank.__getitem__)[: shares[name]] for name, members in classes.items()]
        return sorted(i for some in drawn for i in some)
    vectors = _features(pool, encode)
    quality = np.ones(len(pool)) if by == "diversity" else _quality(pool, vectors, scores, seed)
    picked: list[int] = []
    for name, members in classes.items():
        if not shares[name]:
            continue
        best = sorted(members, key=lambda i: (-quality[i], rank[i]))
        if by == "quality":
            picked += best[: shares[name]]
            continue
        sound = max(shares[name], sum(quality[i] >= _DOUBTFUL for i in best))
        picked += _diverse(vectors, quality, np.array(best[:sound]), shares[name])
    return sorted(picked)


def _features(pool: Columns, encode: Encoder | None) -> Vectors:
    """Return features of the prompts; of prompts and answers where answers are open text."""
    closed = any(label is not None for label in pool.labels)
    texts = pool.prompts if closed else [f"{p}\n{a}" for p, a in zip(pool.prompts, pool.answers, strict=True)]
    if encode is not None:
        return unit(np.array(encode(texts), dtype=np.float32))
    return hashed_tfidf(texts, _DIMENSIONS if len(texts) <= _MANY_ROWS else _DIMENSIONS // 2)


def _quality(pool: Columns, vectors: Vectors, scores: Numbers | None, seed: int) -> Numbers:
    """Return quality in [0, 1]; scores reorder rows from ``_DOUBTFUL`` up, NaN being the lowest."""
    plain = signals(pool, vectors, seed=seed).together()
    if scores is None:
        return plain
    sound = np.flatnonzero(plain >= _DOUBTFUL)
    order = np.argsort(np.where(np.isnan(scores), -np.inf, scores)[sound], kind="stable")
    ranked = plain.copy()
    ranked[sound[order]] = np.linspace(_DOUBTFUL, 1.0, len(sound))
    return ranked


def _shares(sizes: Mapping[str, int], rows: int) -> dict[str, int]:
    """Divide ``rows`` among classes by size, one row at least for each where rows reach that far.

    >>> _shares({"a": 97, "b": 2, "c": 1}, 4)
    {'a': 2, 'b': 1, 'c': 1}
    """
    if rows <= len(sizes):
        largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:rows]
        return {name: int(name in largest) for name in sizes}
    # One each first, the rest by what is still there, would favour small classes; so take back from large.
    shares = quotas(sizes, rows)
    empty = [name for name, share in shares.items() if share == 0]
    for name in empty:
        shares[name] = 1
        shares[max(shares, key=lambda n: (shares[n], n))] -= 1
    return shares


def _diverse(vectors: Vectors, quality: Numbers, members: Positions, count: int) -> list[int]:
    """Choose ``count`` members, spread over blocks of alike rows in proportion."""
    parts = blocks(vectors, members)
    shares = quotas({f"{n:06}": len(part) for n, part in enumerate(parts)}, count)
    return [
        int(i)
        for n, part in enumerate(parts)
        for i in part[facility_location(vectors[part], quality[part], shares[f"{n:06}"])]
    ]


def facility_location(vectors: Vectors, weights: Numbers, count: int) -> list[int]:
    """Choose rows so that every row has a chosen one like it: maximise sum over rows of the best similarity.

    Args:
        vectors: Rows of length one, shape ``(n, dimensions)``.
        weights: How much each row counts, as one to cover and as one to choose; shape ``(n,)``, not negative.
        count: How many to choose, at most ``n``.

    Returns:
        Positions in the order chosen.

    Source:
        Minoux (1978): the gain of a row only falls while others are chosen, so a row whose old gain is not
        the highest need not be looked at again.
    """
    alike = np.maximum(vectors @ vectors.T, 0) * weights.astype(np.float32)  # (chosen, covered)
    np.fill_diagonal(alike, weights)  # a row without features still covers itself
    covered = np.zeros(len(vectors), dtype=np.float32)
    gains = alike.sum(axis=1) * weights
    heap = [(-float(gain), i) for i, gain in enumerate(gains)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, i = heapq.heappop(heap)
        gain = -float(np.maximum(alike[i] - covered, 0).sum() * weights[i])
        if heap and (gain, i) > heap[0]:
            heapq.heappush(heap, (gain, i))
            continue
        chosen.append(i)
        np.maximum(covered, alike[i], out=covered)
    return chosen
