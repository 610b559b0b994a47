"""Macro-F1: every class counts alike, however rare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import Corpus, texts_of
from tunery.evaluate.scorers import Declaration, ScorerOptions
from tunery.text.answer import LabelReader

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

DECLARATION = Declaration("macro F1", needs=("labels",), auto=("labels",), judged_by="accuracy")
NO_LABEL = "(no label)"
"""Stands for every answer that names no label of the set."""


def no_label(references: Collection[str]) -> str:
    """Return what stands for an answer that names no label: :data:`NO_LABEL`, unless that is one itself."""
    name = NO_LABEL
    while name in references:
        name = f"({name})"
    return name


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return the unweighted mean of the F1 of every class that occurs among the references.

    An answer outside those classes is a miss of its reference's class and no class of its own; this is
    scikit-learn's ``f1_score(..., labels=sorted(set(references)), average="macro", zero_division=0)``.
    """
    texts = {row.reference for side in sides for row in side if row.reference is not None}
    reader = LabelReader(options.labels or sorted(texts))
    classes = sorted({reader.read(text) or text for text in texts})

    def columns(rows: Sequence[Row]) -> Floats:
        answers, references = texts_of(rows)
        return columns_of([reader.read(r) or r for r in references], map(reader.read, answers), classes)

    return Corpus(columns, of_sums)


def columns_of(references: Iterable[str], answers: Iterable[str | None], classes: Sequence[str]) -> Floats:
    """Return what F1 by class sums over examples.

    Returns:
        Zeros and ones, shape ``(n, 3 * n_classes)``: answered rightly as the class, is of the class,
        answered as the class.
    """
    import numpy as np

    pairs = list(zip(references, answers, strict=True))
    columns = np.zeros((len(pairs), 3, len(classes)))
    place = {label: i for i, label in enumerate(classes)}
    for row, (reference, answer) in enumerate(pairs):
        if reference in place:
            columns[row, 1, place[reference]] = 1
        if answer in place:
            columns[row, 2, place[answer]] = 1
            columns[row, 0, place[answer]] = float(answer == reference)
    return columns.reshape(len(pairs), -1)


def of_sums(sums: Floats) -> Floats:
    """Return macro-F1 of summed columns, ``(k, 3 * n_classes)`` to ``(k,)``, over the classes that occur."""
    import numpy as np

    hits, support, answered = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
    f1 = 2 * hits / np.maximum(support + answered, 1)
    occurring = support > 0
    mean: Floats = (f1 * occurring).sum(axis=1) / np.maximum(occurring.sum(axis=1), 1)
    return mean
