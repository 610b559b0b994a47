"""Names of people, places and organisations, by a small network over hashed features of the tokens around.

spaCy's smallest pipeline reads about 240 short texts a second on one core, which is too slow to run over
every row of a dataset. Here a word's vector is looked up once and kept, and all that is left to do for a text
is two matrix products.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunery.text.pii.patterns import PEOPLES
from tunery.text.pii.tokens import TOKEN, bucket, countries, features, gazetteer, letter_case

LABELS = ("", "PERSON", "LOCATION", "ORGANIZATION")
"""What a token can be part of; the empty one is nothing. Neighbours of one label are one span."""

WINDOWS = (7, 5)
"""Tokens the first and the second layer see, the token itself in the middle."""

_GAP = WINDOWS[0] // 2
"""Empty rows between two texts of a batch, so that none sees the next [tokens]."""

_BATCH_TOKENS = 4096
_MOST_WORDS = 50_000
"""Words whose vectors are kept; past it the memory is emptied and filled anew [words]."""

Floats = NDArray[np.float32]


class Name(NamedTuple):
    """One name in a text."""

    start: int
    end: int
    label: str
    score: float
    """Mean probability of the label over the span's tokens, in (0, 1]."""


def windows(rows: Floats, width: int) -> Floats:
    """Return each row beside its neighbours, shape ``(n, width * columns)``, zeros past the ends."""
    padded = np.pad(rows, ((width // 2, width // 2), (0, 0)))
    return np.concatenate([padded[i : i + len(rows)] for i in range(width)], axis=1)


class NameModel:
    """The network, its weights, and the vectors of words seen so far."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        """Take the arrays that ``scripts/pii/train.py`` writes.

        Args:
            weights: ``embedding (BUCKETS, d)``, ``w1 (7 d, h)``, ``b1 (h,)``, ``w2 (5 h, k)``, ``b2 (k,)``,
                ``w3 (k, labels)``, ``b3 (labels,)``.
        """
        self._weights = weights
        self._vectors = np.zeros((1024, weights["embedding"].shape[1]), np.float32)
        self._place: dict[tuple[str, str], int] = {}

    def _vector(self, word: str, case: str) -> int:
        """Return the row of a word's vector; row 0 is the empty one."""
        place = len(self._place) + 1
        if place == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        rows = [bucket(f) for f in features(word, case, gazetteer())]
        self._vectors[place] = self._weights["embedding"][rows].sum(axis=0)
        self._place[word, case] = place
        return place

    def forget(self) -> None:
        """Empty the memory of words."""
        self._place.clear()

    def probabilities(self, places: NDArray[np.intp]) -> Floats:
        """Return every token's label probabilities, shape ``(n, labels)``; row 0 parts texts."""
        w = self._weights
        first = np.maximum(windows(self._vectors[places], WINDOWS[0]) @ w["w1"] + w["b1"], 0)
        first[places == 0] = 0
        second = np.maximum(windows(first, WINDOWS[1]) @ w["w2"] + w["b2"], 0)
        scores = second @ w["w3"] + w["b3"]
        exp = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Floats = exp / exp.sum(axis=1, keepdims=True)
        return shares

    def find(self, texts: Sequence[str], threshold: float) -> list[list[Name]]:
        """Return the names of each text, sorted.

        Args:
            texts: Any number of texts.
            threshold: Probability of being any name from which a token is taken for one, in (0, 1); low finds
                more and errs more.
        """
        found: list[list[Name]] = [[] for _ in texts]
        for batch in _batches(texts):
            if len(self._place) > _MOST_WORDS:
                self.forget()
            known, places = self._place, [0] * _GAP
            for piece in batch:
                for match in piece.tokens:
                    key = match.group(), piece.case
                    places.append(known.get(key) or self._vector(*key))
                places += [0] * _GAP
            shares = self.probabilities(np.array(places))
            labels = np.where(shares[:, 0] <= 1 - threshold, shares[:, 1:].argmax(axis=1) + 1, 0)
            run, sure, at = labels.tolist(), shares.max(axis=1), _GAP
            for piece in batch:
                here = run[at : at + len(piece.tokens)]
                if any(here):
                    found[piece.text] += _spans(piece.tokens, here, sure[at : at + len(here)])
                at += len(piece.tokens) + _GAP
        return found


class _Piece(NamedTuple):
    """A text, or a part of a long one."""

    text: int
    """Which text."""
    tokens: list[re.Match[str]]
    case: str


def _batches(texts: Sequence[str]) -> Iterator[list[_Piece]]:
    """Gather texts into batches of some thousand tokens; a longer text is cut, and with it a name there."""
    batch: list[_Piece] = []
    size = 0
    for index, text in enumerate(texts):
        tokens = list(TOKEN.finditer(text))
        case = letter_case(text)
        for start in range(0, len(tokens), _BATCH_TOKENS):
            piece = _Piece(index, tokens[start : start + _BATCH_TOKENS], case)
            if size + len(piece.tokens) > _BATCH_TOKENS and batch:
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += len(piece.tokens) + _GAP
    if batch:
        yield batch


def _spans(tokens: Sequence[re.Match[str]], labels: Sequence[int], sure: Floats) -> Iterator[Name]:
    """Join neighbours of one label, marks at either end left out."""
    cuts = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
    for first, end in pairwise(cuts):
        if not labels[first]:
            continue
        inside = [i for i in range(first, end) if tokens[i].group()[0].isalnum()]
        if not inside:
            continue
        start, stop = tokens[inside[0]].start(), tokens[inside[-1]].end()
        score = float(sure[inside[0] : inside[-1] + 1].mean())
        name = Name(start, stop, LABELS[labels[first]], round(score, 3))
        if _believable(tokens[0].string[start:stop], name):
            yield name


_LEAST = {"PERSON": 0.0, "LOCATION": 0.0, "ORGANIZATION": 0.7}
_LEAST_SMALL = 0.85
"""Score that a name in small letters needs: most words in small letters name nobody."""
_PEOPLES = frozenset(PEOPLES.split("|"))


def _believable(value: str, name: Name) -> bool:
    """Tell whether a span is worth telling.

    A country, a union of countries or a continent that stands alone is not: it tells nobody apart, and many
    questions to a bank or a shop name one. Within an address it stays a part of the address. A people is no
    place.
    """
    low = value.lower().removeprefix("the ")
    if len(value) == 1 and not value.isdigit():
        return False
    if low in countries() or (name.label == "LOCATION" and value in _PEOPLES):
        return False
    return name.score >= (_LEAST_SMALL if value.islower() else _LEAST[name.label])


@cache
def name_model() -> NameModel:
    """Return the model that ships with the package, read once."""
    packed = files("tunery.text.pii").joinpath("names.npz").read_bytes()
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        weights = {name: stored[name].astype(np.float32) for name in stored.files}
    weights["embedding"] *= weights.pop("embedding_step")
    return NameModel(weights)
