"""The known text most like another, for texts that come one by one; curation compares all at once instead."""

from __future__ import annotations

from array import array
from collections import defaultdict
from functools import partial
from typing import NamedTuple

import numpy as np

from tunery.text.normalise import fingerprint
from tunery.text.shingles import SHINGLE_CHARS


class Near(NamedTuple):
    """The most similar text there is."""

    position: int
    similarity: float
    """Jaccard index of the character 4-grams."""


class Neighbours:
    """Texts by their character 4-grams; finds the most similar one exactly, without comparing with all."""

    def __init__(self) -> None:
        self._sizes = array("q")
        self._holders: dict[str, array[int]] = defaultdict(partial(array, "q"))
        """Piece to the positions of the texts that have it."""

    def add(self, text: str) -> None:
        """Add a text; positions count from 0."""
        pieces = _pieces(text)
        for piece in pieces:
            self._holders[piece].append(len(self._sizes))
        self._sizes.append(len(pieces))

    def nearest(self, text: str) -> Near | None:
        """Return the most similar text, the first of several; None where none shares a piece."""
        pieces = _pieces(text)
        found = [np.array(self._holders[piece]) for piece in pieces if piece in self._holders]
        if not found:
            return None
        common = np.bincount(np.concatenate(found), minlength=len(self._sizes))
        similarities = common / (len(pieces) + np.array(self._sizes) - common)
        best = int(similarities.argmax())
        return Near(best, float(similarities[best]))


def _pieces(text: str) -> frozenset[str]:
    """Cut as curation cuts prompts, so that both find the same texts alike."""
    text = fingerprint(text)
    return frozenset(text[i : i + SHINGLE_CHARS] for i in range(max(1, len(text) - SHINGLE_CHARS + 1)))
