"""Coverage at a stated error: how many answers can be given when the others are withheld."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunery.evaluate.calibration import CONFIDENCE, is_for_choice, threshold_for
from tunery.evaluate.corpus import Corpus
from tunery.evaluate.scorers import Declaration, ScorerOptions

if TYPE_CHECKING:
    from tunery.evaluate.pairing import Row
    from tunery.statistics.bootstrap import Floats

DECLARATION = Declaration("answers given at the stated error", judged_by="exact_match", scores=(CONFIDENCE,))


def corpus(sides: Sequence[Sequence[Row]], options: ScorerOptions) -> Corpus:
    """Return the share of rows with at least the confidence that holds ``evaluate.max_error``.

    Each side's threshold is chosen on one half of its rows, and the share is of the other; 0 where none holds
    the error.
    """
    return Corpus(lambda rows: columns(rows, options.max_error), of_sums)


def columns(rows: Sequence[Row], max_error: float) -> Floats:
    """Return given and counted rows of the half that checks, shape ``(n, 2)``."""
    import numpy as np

    threshold = threshold_for([row for row in rows if is_for_choice(row)], max_error)
    checked = [not is_for_choice(row) for row in rows]
    given = [threshold is not None and row.scores[CONFIDENCE] >= threshold for row in rows]
    return np.asarray([[float(c and g), float(c)] for c, g in zip(checked, given, strict=True)])


def of_sums(sums: Floats) -> Floats:
    """Return the share of summed columns; 0 where no row checks."""
    import numpy as np

    values: Floats = sums[:, 0] / np.maximum(sums[:, 1], 1)
    return values
