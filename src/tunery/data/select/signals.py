"""Quality of rows: what a base model makes of each answer, and what shows without a model."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tunery.core.columns import Columns
from tunery.text.features import Vectors, blocks

Numbers = npt.NDArray[np.float64]
_FOLDS = 5
_RIDGE = 1.0
_REPEAT_FROM = 0.9
_REPEATED = 0.25
_ODD_LENGTH = 3.0
_DAMAGED = re.compile(r"\ufffd|Ã.|â€.|Â.|&(?:nbsp|amp|lt|gt|quot|#\d+);|</?[a-z]+[^<>]*>|\x00")


class Signals(NamedTuple):
    """What rows show without a model, each in [0, 1], 1 is good; shape ``(n,)``."""

    agreement: Numbers
    """Does the label fit the text? From 0.5 up it is the one that rows alike, not seen with it, suggest."""
    intact: Numbers
    """Share of the text that is words, not markup, wrong decoding or noise."""
    usual: Numbers
    """1 where prompt and answer are of usual length, falling with the distance from it."""
    fresh: Numbers
    """1 where no earlier row says nearly the same, else 0.25."""

    def together(self) -> Numbers:
        """Return one number for each row: the product, so that one bad signal is enough."""
        return self.agreement * self.intact * self.usual * self.fresh


def signals(columns: Columns, vectors: Vectors, *, seed: int = 0) -> Signals:
    """Look at rows without a model.

    Args:
        columns: The rows.
        vectors: Features of their texts, rows of length one, shape ``(n, dimensions)``.
        seed: Another seed cuts other folds.
    """
    lengths = np.minimum(
        _usual([len(t) for t in columns.prompts]),
        np.ones(len(columns)) if _labelled(columns) else _usual([len(t) for t in columns.answers]),
    )
    return Signals(
        agreement=_agreement(columns, vectors, seed),
        intact=np.array([intact(prompt) for prompt in columns.prompts]),
        usual=lengths,
        fresh=_fresh(columns, vectors),
    )


def intact(text: str) -> float:
    """Return the share of a text that looks like language: 1 for plain text, 0 for none of it.

    Counted against it are markup, wrong decoding, words without a vowel or with letters and digits mixed,
    and a word that comes over and over.

    >>> intact("Where is my card?"), intact("<br/><br/>")
    (1.0, 0.0)
    """
    bare = _DAMAGED.sub("", text)
    kept = len(bare) / len(text) if text else 0.0
    words = bare.split()
    if not words or not any(c.isalnum() for c in bare):
        return 0.0
    chars = sum(map(len, words))
    odd = sum(len(w) for w in words if _is_noise(w))
    repeated = len(words) - len(set(words)) if len(words) > 4 else 0
    return kept * (1 - odd / chars) * (1 - max(0.0, repeated / len(words) - 0.4) / 0.6)


def _is_noise(word: str) -> bool:
    letters = [c for c in word if c.isalpha()]
    if len(word) < 4 or not letters:
        return len(word) > 3 and not any(c.isdigit() for c in word)
    if any(ord(c) > 0x24F for c in letters):
        return False  # other scripts have other rules
    mixed = len(re.findall(r"[a-z]\d|\d[a-z]", word)) > 2
    return mixed or (word.islower() and not any(c in "aeiouyáéíóúäöüàèìòùâêîôûåøæœ" for c in letters))


def _labelled(columns: Columns) -> bool:
    return any(label is not None for label in columns.labels)


def _usual(lengths: Sequence[int]) -> Numbers:
    """Return 1 for lengths within three robust deviations of the median (of logarithms), less beyond."""
    logs = np.log1p(np.array(lengths, dtype=np.float64))
    if not len(logs):
        return logs
    centre = float(np.median(logs))
    # Half the rows may have one length: a spread of at least a tenth keeps the others from being odd.
    spread = max(0.1, 1.4826 * float(np.median(np.abs(logs - centre))))
    distance = np.abs(logs - centre) / spread
    usual: Numbers = np.minimum(1.0, _ODD_LENGTH / np.maximum(distance, 1e-9))
    return usual


def _agreement(columns: Columns, vectors: Vectors, seed: int) -> Numbers:
    """Return (1 + margin) / 2, the margin of a row's label over the best other, as seen from other folds.

    A ridge regression from features to classes has a closed form, and leaving a fold out subtracts that
    fold's share of two matrices: five fits cost little more than one. Rows of a group are in one fold, so
    that a wrong label's copy cannot vouch for it.
    """
    result = np.ones(len(columns))
    names = sorted({label for label in columns.labels if label is not None})
    if len(names) < 2:
        return result
    number = {name: i for i, name in enumerate(names)}
    known = np.array([i for i, label in enumerate(columns.labels) if label is not None])
    classes = np.array([number[str(columns.labels[i])] for i in known])
    folds = np.array([zlib.crc32(f"{seed}\x1f{columns.groups[i]}".encode()) % _FOLDS for i in known])
    parts = [_moments(vectors[known[folds == k]], classes[folds == k], len(names)) for k in range(_FOLDS)]
    gram = sum((part[0] for part in parts), start=_RIDGE * np.eye(vectors.shape[1], dtype=np.float32))
    sums = sum((part[1] for part in parts), start=np.zeros_like(parts[0][1]))
    for k, part in enumerate(parts):
        mine = known[folds == k]
        if len(mine):
            values = vectors[mine] @ np.linalg.solve(gram - part[0], sums - part[1])  # (rows, classes)
            result[mine] = np.clip((1 + _margins(values, classes[folds == k])) / 2, 0, 1)
    return result


def _moments(vectors: Vectors, classes: npt.NDArray[np.int64], count: int) -> tuple[Vectors, Vectors]:
    """Return X'X and X'Y for one-hot Y, which is never written out."""
    sums = np.zeros((vectors.shape[1], count), dtype=np.float32)
    for c in np.unique(classes):
        sums[:, c] = vectors[classes == c].sum(axis=0)
    return vectors.T @ vectors, sums


def _margins(values: Vectors, classes: npt.NDArray[np.int64]) -> Numbers:
    """Return each row's value at its class less the highest elsewhere."""
    at = np.arange(len(values))
    own = values[at, classes].astype(np.float64)
    values[at, classes] = -np.inf
    margins: Numbers = own - values.max(axis=1)
    return margins


def _fresh(columns: Columns, vectors: Vectors) -> Numbers:
    """Return 0.25 for rows that nearly repeat an earlier row of their class.

    Compared are the rows of one block, which keeps the work near-linear; of two rows so alike that fall on
    different sides of a cut, both count as fresh.
    """
    fresh = np.ones(len(columns))
    for members in by_label(columns, range(len(columns))).values():
        for block in blocks(vectors, np.array(members)):
            alike = vectors[block] @ vectors[block].T >= _REPEAT_FROM
            fresh[block[np.tril(alike, -1).any(axis=1)]] = _REPEATED
    return fresh


def by_label(columns: Columns, positions: Iterable[int]) -> dict[str, list[int]]:
    """Return the positions of each class, by class name; unlabelled rows are one class, named ""."""
    classes: dict[str, list[int]] = defaultdict(list)
    for i in positions:
        classes[columns.labels[i] or ""].append(i)
    return {name: classes[name] for name in sorted(classes)}
