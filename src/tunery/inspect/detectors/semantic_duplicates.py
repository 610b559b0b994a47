"""Semantic duplicates: rows that say in other words what others say, within a split and across splits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunery.core.columns import Columns
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.likeness import Likeness
from tunery.inspect.repeats import joined, leaks, repeats
from tunery.text.embeddings import Encoder

_REPEATS = FindingKind(
    "semantic_duplicate",
    "Duplicates in other words",
    "low",
    "Look at the groups and keep the best row of each.",
    is_guess=True,
)
_LEAK = FindingKind(
    "semantic_leak",
    "Held-out prompts in training, in other words",
    "medium",
    "Take the training rows out, or give both rows one group.",
    is_guess=True,
)
KINDS = (_REPEATS, _LEAK)

_AT_ONCE = 1024


def find(
    columns: Columns, likeness: Likeness, encoder: Encoder, *, semantic_threshold: float = 0.97
) -> Iterator[Finding]:
    """Find rows whose prompts say the same in other words.

    Comparing is quadratic in rows, in blocks of matrix products.

    Args:
        columns: The rows.
        likeness: Their prompts compared: what is exactly or nearly the same is another detector's.
        encoder: Gives vectors of prompts.
        semantic_threshold: Cosine from which two prompts say the same.

    Returns:
        ``semantic_duplicate`` (the prompts, with the same answer) within one split, ``semantic_leak`` across
        splits; no edits.
    """
    known = {frozenset((p.first, p.second)) for p in likeness.near}
    links = [
        (a, b)
        for a, b in _links(columns, encoder, semantic_threshold)
        if likeness.fingerprints[a] != likeness.fingerprints[b] and frozenset((a, b)) not in known
    ]
    agreeing = [(a, b) for a, b in links if columns.answers[a] == columns.answers[b]]
    words = "say in other words what an earlier row says, with the same answer"
    yield from repeats(columns, joined(len(columns), agreeing), _REPEATS, words)
    yield from leaks(columns, joined(len(columns), links), _LEAK, "in other words")


def _links(columns: Columns, encoder: Encoder, threshold: float) -> list[tuple[int, int]]:
    vectors = np.asarray(encoder(columns.prompts), dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.maximum(norms, 1e-12)
    links: list[tuple[int, int]] = []
    for start in range(0, len(vectors), _AT_ONCE):
        block = vectors[start : start + _AT_ONCE] @ vectors[start:].T  # (block, rows from start on)
        first, second = np.nonzero(block >= threshold)
        later = second > first
        links += zip((first[later] + start).tolist(), (second[later] + start).tolist(), strict=True)
    return links
