"""Label sets as columns of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.corpus import texts_of
from tunery.evaluate.scorers.multi_label import LabelSets

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats


def columns_of(rows: Sequence[Row], sets: LabelSets) -> Floats:
    """Return what F1 by label sums over rows.

    Returns:
        Zeros and ones, shape ``(n, 3 * (n_labels + 1))``: rightly answered, wanted and answered labels; the
        last of each three counts answers that are no label, which are wanted by none.
    """
    import numpy as np

    answers, references = texts_of(rows)
    place = {label: i for i, label in enumerate(sets.labels)}
    columns = np.zeros((len(rows), 3, len(place) + 1))
    for row, (answer, reference) in enumerate(zip(answers, references, strict=True)):
        given, wanted = sets.read(answer), sets.read(reference)
        for kind, found in enumerate((given & wanted, wanted, given)):
            for label in found:
                columns[row, kind, place.get(label, len(place))] += 1
    return columns.reshape(len(rows), -1)
