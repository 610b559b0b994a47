"""Macro-F1 of answers that are sets of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import Corpus, macro_f1
from tunery.evaluate.corpus.label_sets import columns_of
from tunery.evaluate.scorers import Declaration, ScorerOptions
from tunery.evaluate.scorers.multi_label import LabelSets

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row

DECLARATION = Declaration("macro F1 of label sets", judged_by="multi_label")


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return the F1 of labels as a mean over those that occur among the references.

    This is scikit-learn's ``f1_score`` of indicators with ``average="macro"`` over these labels.
    """
    sets = LabelSets([row.reference or "" for side in sides for row in side])
    return Corpus(lambda rows: columns_of(rows, sets), macro_f1.of_sums)
