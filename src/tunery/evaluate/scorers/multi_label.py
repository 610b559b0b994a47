"""Multi-label: the answer names all the right labels of a set and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tunery.core.example import Example
from tunery.evaluate.scorers import Declaration, Scorer, ScorerOptions
from tunery.text.answer import LabelReader, NotJson, read_json, squeeze

DECLARATION = Declaration("label sets right")
_BETWEEN = re.compile(r"[,;\n]")
_NO_LABEL = "\0"
"""Stands before what is answered and is no label: no label holds it, as data with it is refused."""


class LabelSets:
    """Reads sets of labels: a JSON list of strings, or labels with a comma, semicolon or line break between.

    Single labels are read as :class:`~tunery.text.answer.LabelReader` does. An empty text and ``[]`` are
    the empty set.

    Args:
        references: Texts whose labels are all that there are.
    """

    def __init__(self, references: Iterable[str]) -> None:
        found = {label for text in set(references) for label in _pieces(text)}
        self.labels = tuple(sorted(found))
        self._reader = LabelReader(self.labels)

    def read(self, text: str) -> frozenset[str]:
        """Return the labels that a text names; a piece that is none stays apart from every label."""
        whole = self._reader.read(text)
        if whole is not None:
            return frozenset({whole})
        return frozenset(self._reader.read(piece) or _NO_LABEL + piece for piece in _pieces(text))


def _pieces(text: str) -> list[str]:
    try:
        value = read_json(text)
    except NotJson:
        value = None
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        pieces = value
    else:
        pieces = _BETWEEN.split(text)
    found = [squeezed for piece in pieces if (squeezed := squeeze(piece))]
    # A label may be a sign that elsewhere stands between labels.
    return found if found or isinstance(value, list) else [one for one in (squeeze(text),) if one]


class MultiLabel:
    """1 when both name the same set of labels; the part ``sample_f1`` is F1 of the row's own set.

    A mean over rows of ``sample_f1`` is scikit-learn's ``f1_score(average="samples", zero_division=1)``: two
    empty sets agree. Labels are those of the references.
    """

    part_names = ("sample_f1",)

    def __init__(self, references: Iterable[str]) -> None:
        self._sets = LabelSets(references)

    def score(self, prediction: str, example: Example) -> float:
        """Return 1.0 or 0.0."""
        return float(self.correct(prediction, example))

    def correct(self, prediction: str, example: Example) -> bool:
        """Return whether the sets are the same."""
        return self._sets.read(prediction) == self._sets.read(example.reference)

    def parts(self, prediction: str, example: Example) -> Mapping[str, float]:
        """Return F1 of the labels of this row."""
        given, wanted = self._sets.read(prediction), self._sets.read(example.reference)
        both = len(given) + len(wanted)
        return {"sample_f1": 2 * len(given & wanted) / both if both else 1.0}


def make(options: ScorerOptions) -> Scorer:
    """Return the scorer for the labels of the references."""
    return MultiLabel(options.references)
