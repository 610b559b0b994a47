"""Hard rows: those whose loss stayed high through a training."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tunery.core.columns import Columns
from tunery.core.figures import counted, number, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.core.row_losses import RowLosses, stay_hard
from tunery.inspect.evidence import Case, finding

_HARD = FindingKind(
    "hard_row",
    "Rows that stay hard in training",
    "medium",
    "Read them: an answer may be wrong or contradict others; where it is right, add rows of its kind.",
)
KINDS = (_HARD,)


def find(columns: Columns, row_losses: RowLosses) -> Iterator[Finding]:
    """Find rows that training did not learn as it learnt others.

    Args:
        columns: The rows.
        row_losses: What a training on them recorded; rows that are not there are passed over.

    Returns:
        ``hard_row``, as :func:`~tunery.core.row_losses.stay_hard` defines it; no edits, for only a person can
        tell a wrong row from a rare one.
    """
    places = {identity: i for i, identity in enumerate(columns.ids)}
    hard = [row for row in stay_hard(row_losses) if row.id in places]
    if not hard:
        return
    last = median(losses[-1] for losses in row_losses.values() if losses)
    cases = [
        Case(
            (places[row.id],),
            columns.prompts[places[row.id]],
            f"answered {columns.answers[places[row.id]]!r:.100}; loss "
            f"{' → '.join(number(loss) for loss in row.losses)}, of a usual row {number(last)} at last",
        )
        for row in hard
    ]
    yield finding(
        columns,
        _HARD,
        f"The loss of {counted(len(hard), 'row')} ({percent_of(len(hard), len(row_losses))} of those trained "
        "on) stayed far above that of the others after the first pass.",
        cases,
        numbers={"rows": len(hard), "trained": len(row_losses), "usual_loss": last},
    )
