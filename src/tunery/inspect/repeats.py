"""Rows that say the same: joined to groups, and reported within a split or across splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, drops, finding
from tunery.text.minhash import join

_HELD_OUT = ("validation", "test")


def joined(count: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the groups of two rows and more that links between ``count`` rows make."""
    if not links:
        return []
    members: dict[int, list[int]] = defaultdict(list)
    for i, root in enumerate(join(count, np.asarray(links, dtype=np.int64))):
        members[root].append(i)
    return [rows for rows in members.values() if len(rows) > 1]


def repeats(
    columns: Columns, groups: Sequence[Sequence[int]], kind: FindingKind, what: str
) -> Iterator[Finding]:
    """Report the groups inside one split each; what crosses splits is a leak and reported as one.

    Args:
        columns: The rows.
        groups: Positions of rows that say the same.
        kind: What it is reported as; edits take out all rows but the first, unless they would be guesses.
        what: Completes 'rows …'.
    """
    inside = []
    for group in groups:
        splits: dict[str, list[int]] = defaultdict(list)
        for i in group:
            splits[columns.splits[i]].append(i)
        inside += [rows for rows in splits.values() if len(rows) > 1]
    if not inside:
        return
    inside.sort(key=lambda rows: (-len(rows), rows))
    extra = [i for rows in inside for i in rows[1:]]
    cases = [
        Case(
            tuple(rows),
            columns.prompts[rows[0]],
            f"{counted(len(rows), 'row')}, first {columns.where(rows[0])}",
        )
        for rows in inside
    ]
    message = (
        f"{counted(len(extra), 'row')} ({percent_of(len(extra), len(columns))}) {what}, in "
        f"{counted(len(inside), 'group')}."
    )
    numbers = {"groups": len(inside), "rows": len(extra)}
    edits = [] if kind.is_guess else drops(columns, kind, extra)
    yield finding(columns, kind, message, cases, edits=edits, numbers=numbers)


def leaks(
    columns: Columns, groups: Sequence[Sequence[int]], kind: FindingKind, how: str
) -> Iterator[Finding]:
    """Report the groups with rows both in training and held out; ``how`` completes 'rows say …'."""
    cases, trained, held = [], [], 0
    for group in groups:
        inside = [i for i in group if columns.splits[i] not in _HELD_OUT]
        outside = [i for i in group if columns.splits[i] in _HELD_OUT]
        if inside and outside:
            where = ", ".join(sorted({columns.splits[i] for i in outside}))
            cases.append(
                Case((*outside, *inside), columns.prompts[outside[0]], f"in {where} and, {how}, in train")
            )
            trained += inside
            held += len(outside)
    if not cases:
        return
    message = (
        f"{counted(held, 'held-out row says', 'held-out rows say')} {how} what "
        f"{counted(len(trained), 'training row says', 'training rows say')}: results on them are too good."
    )
    numbers = {"held_out": held, "train": len(trained)}
    edits = [] if kind.is_guess else drops(columns, kind, trained)
    yield finding(columns, kind, message, cases, edits=edits, numbers=numbers)
