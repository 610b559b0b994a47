"""Scores: rows that the base or a judge holds for wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.core.quality import JUDGED_WRONG, RowQuality
from tunery.inspect.evidence import Case, drops, finding

_JUDGED = FindingKind(
    "judged_wrong", "Rows that a judge holds for wrong", "high", "Review them, or take them out."
)
_MISLEADING = FindingKind(
    "misleading_prompt",
    "Prompts that mislead the base",
    "medium",
    "Look whether prompt and answer belong together; a task the base does not know shows up too.",
)
KINDS = (_JUDGED, _MISLEADING)


def find(columns: Columns, scores: Sequence[RowQuality]) -> Iterator[Finding]:
    """Find rows with bad scores.

    What was scored and is not there is passed over.

    Returns:
        ``judged_wrong``: a judge gave at most 2 of 5; with edits that drop the rows. ``misleading_prompt``:
        the base finds the answer likelier without the prompt's words than with them (IFD of at least 1); no
        edits, for it may be what the base has to learn.
    """
    known = {row.id: row for row in scores}
    found = [(i, known[id]) for i, id in enumerate(columns.ids) if id in known]
    wrong = sorted((row.judge, i) for i, row in found if row.judge is not None and row.judge <= JUDGED_WRONG)
    if wrong:
        judged = Counter(row.judge for _, row in found if row.judge is not None)
        yield finding(
            columns,
            _JUDGED,
            f"A judge holds {counted(len(wrong), 'row')} for wrong or mostly so "
            f"({percent_of(len(wrong), judged.total())} of those it scored).",
            [_case(columns, i, f"score {score} of 5") for score, i in wrong],
            edits=drops(columns, _JUDGED, (i for _, i in wrong)),
            numbers={"scores": {str(score): n for score, n in sorted(judged.items())}},
        )
    against = sorted((-row.ifd, i) for i, row in found if row.ifd >= 1)
    if against:
        yield finding(
            columns,
            _MISLEADING,
            f"In {counted(len(against), 'row')} ({percent_of(len(against), len(found))} of those scored) "
            "the base finds the answer likelier without the prompt than with it.",
            [_case(columns, i, f"difficulty (IFD) {-ifd:.2f}") for ifd, i in against],
            numbers={"rows": len(against), "scored": len(found)},
        )


def _case(columns: Columns, i: int, score: str) -> Case:
    return Case((i,), columns.prompts[i], f"answered {columns.answers[i]!r:.100}; {score}")
