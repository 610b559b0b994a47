"""Scores: rows that the base or a judge holds for wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Edit, Finding
from tunery.core.quality import JUDGED_WRONG, RowQuality
from tunery.inspect.evidence import Case, Verdict, made


def score_findings(columns: Columns, scores: Sequence[RowQuality]) -> Iterator[Finding]:
    """Find rows with bad scores.

    Args:
        columns: The rows.
        scores: Of some of them, by example id; what was scored and is not there is passed over.

    Returns:
        ``judged_wrong`` (high): a judge gave at most 2 of 5; with edits that drop the rows.
        ``misleading_prompt`` (medium): the base finds the answer likelier without the prompt's words than
        with them (IFD of at least 1); no edits, for it may be what the base has to learn.
    """
    known = {row.id: row for row in scores}
    found = [(i, known[id]) for i, id in enumerate(columns.ids) if id in known]
    yield from _judged(columns, found)
    yield from _misleading(columns, found)


def _judged(columns: Columns, found: Sequence[tuple[int, RowQuality]]) -> Iterator[Finding]:
    wrong = sorted(
        ((row.judge, i) for i, row in found if row.judge is not None and row.judge <= JUDGED_WRONG)
    )
    if not wrong:
        return
    judged = sum(row.judge is not None for _, row in found)
    yield made(
        columns,
        Verdict(
            "judged_wrong",
            "high",
            f"A judge holds {counted(len(wrong), 'row')} for wrong or mostly so "
            f"({percent_of(len(wrong), judged)} of those it scored).",
            "Review them, or take them out.",
        ),
        [
            Case((i,), columns.prompts[i], f"answered {columns.answers[i]!r:.100}; score {score} of 5")
            for score, i in wrong
        ],
        edits=[Edit(row=columns.ids[i], action="drop", reason="judged_wrong") for _, i in wrong],
        numbers={
            "scores": {str(k): n for k, n in sorted(Counter(r.judge for _, r in found if r.judge).items())}
        },
    )


def _misleading(columns: Columns, found: Sequence[tuple[int, RowQuality]]) -> Iterator[Finding]:
    against = sorted(((-row.ifd, i) for i, row in found if row.ifd >= 1))
    if not against:
        return
    yield made(
        columns,
        Verdict(
            "misleading_prompt",
            "medium",
            f"In {counted(len(against), 'row')} ({percent_of(len(against), len(found))} of those scored) "
            "the base finds the answer likelier without the prompt than with it.",
            "Look whether prompt and answer belong together; a task the base does not know shows up too.",
        ),
        [
            Case(
                (i,), columns.prompts[i], f"answered {columns.answers[i]!r:.100}; difficulty (IFD) {-ifd:.2f}"
            )
            for ifd, i in against
        ],
        numbers={"rows": len(against), "scored": len(found)},
    )
