"""Duplicates: rows that repeat others exactly, nearly or in other words, within a split and across splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Edit, Finding, Severity
from tunery.inspect.evidence import Case, Verdict, made
from tunery.inspect.likeness import Likeness
from tunery.text.embeddings import Encoder
from tunery.text.minhash import join

_HELD_OUT = ("validation", "test")
_NUMBER = re.compile(r"\d+")
_AT_ONCE = 1024


def duplicates(
    columns: Columns, like: Likeness, *, encoder: Encoder | None = None, semantic_threshold: float = 0.97
) -> list[Finding]:
    """Find groups of rows that say the same.

    Args:
        columns: The rows.
        like: Their prompts compared.
        encoder: Gives vectors of prompts; None leaves semantic duplicates out. Comparing is quadratic in
            rows, in blocks of matrix products.
        semantic_threshold: Cosine from which two prompts say the same.

    Returns:
        ``exact_duplicate`` (prompt and answer repeat), ``near_duplicate`` and ``semantic_duplicate`` (the
        prompts, with the same answer) within one split, low or medium; ``leak`` (high): a prompt of a
        held-out split that is exactly or nearly in training as well, and ``semantic_leak`` (medium). Edits
        take out later rows of a group, of a leak the training rows.
    """
    exact = [rows for group in like.same for rows in _by_answer(columns, group)]
    near_links = [(p.first, p.second) for p in like.near if _same_answer(columns, p.first, p.second)]
    near = _groups(len(columns), near_links)
    every = _groups(
        len(columns),
        [
            *((g[0], i) for g in like.same for i in g[1:]),
            *((p.first, p.second) for p in like.near if _alike(columns, p.first, p.second)),
        ],
    )
    found = [
        _repeats(
            columns, exact, "exact_duplicate", "medium", "repeat the prompt and the answer of an earlier row"
        ),
        _repeats(columns, near, "near_duplicate", "low", "nearly repeat an earlier row with the same answer"),
        _leak(columns, every, "leak", "high", "exactly or nearly"),
    ]
    if encoder is not None:
        known = {frozenset(pair) for pair in ((p.first, p.second) for p in like.near)}
        links = [
            (a, b)
            for a, b in _semantic_links(columns, encoder, semantic_threshold)
            if like.prints[a] != like.prints[b] and frozenset((a, b)) not in known
        ]
        agreeing = [(a, b) for a, b in links if columns.answers[a] == columns.answers[b]]
        found += [
            _repeats(
                columns,
                _groups(len(columns), agreeing),
                "semantic_duplicate",
                "low",
                "say in other words what an earlier row says, with the same answer",
                mechanical=False,
            ),
            _leak(
                columns,
                _groups(len(columns), links),
                "semantic_leak",
                "medium",
                "in other words",
                mechanical=False,
            ),
        ]
    return [f for f in found if f is not None]


def _by_answer(columns: Columns, rows: Sequence[int]) -> list[list[int]]:
    answers: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for i in rows:
        answers[columns.answers[i], columns.rejected[i]].append(i)
    return [same for same in answers.values() if len(same) > 1]


def _alike(columns: Columns, a: int, b: int) -> bool:
    """Tell whether two near prompts ask the same: templates that differ in their numbers do not."""
    return _NUMBER.findall(columns.prompts[a]) == _NUMBER.findall(columns.prompts[b])


def _same_answer(columns: Columns, a: int, b: int) -> bool:
    return (
        columns.answers[a].split() == columns.answers[b].split()
        and columns.rejected[a] == columns.rejected[b]
        and _alike(columns, a, b)
    )


def _groups(count: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    if not links:
        return []
    members: dict[int, list[int]] = defaultdict(list)
    for i, root in enumerate(join(count, np.asarray(links, dtype=np.int64))):
        members[root].append(i)
    return [rows for rows in members.values() if len(rows) > 1]


def _repeats(
    columns: Columns,
    groups: Sequence[Sequence[int]],
    kind: str,
    severity: Severity,
    what: str,
    *,
    mechanical: bool = True,
) -> Finding | None:
    """Return the groups inside one split each; what crosses splits is a leak and told as one."""
    inside = []
    for group in groups:
        splits: dict[str, list[int]] = defaultdict(list)
        for i in group:
            splits[columns.splits[i]].append(i)
        inside += [rows for rows in splits.values() if len(rows) > 1]
    if not inside:
        return None
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
    edits = [Edit(row=columns.ids[i], action="drop", reason=kind) for i in extra] if mechanical else []
    fix = "Keep one row of each group." if mechanical else "Look at the groups and keep the best row of each."
    verdict = Verdict(kind, severity, message, fix)
    return made(columns, verdict, cases, edits=edits, numbers={"groups": len(inside), "rows": len(extra)})


def _leak(
    columns: Columns,
    groups: Sequence[Sequence[int]],
    kind: str,
    severity: Severity,
    how: str,
    *,
    mechanical: bool = True,
) -> Finding | None:
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
        return None
    message = (
        f"{counted(held, 'held-out row says', 'held-out rows say')} {how} what "
        f"{counted(len(trained), 'training row says', 'training rows say')}: results on them are too good."
    )
    edits = [Edit(row=columns.ids[i], action="drop", reason=kind) for i in trained] if mechanical else []
    verdict = Verdict(kind, severity, message, "Take the training rows out, or give both rows one group.")
    return made(columns, verdict, cases, edits=edits, numbers={"held_out": held, "train": len(trained)})


def _semantic_links(columns: Columns, encoder: Encoder, threshold: float) -> list[tuple[int, int]]:
    vectors = np.asarray(encoder(columns.prompts), dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.maximum(norms, 1e-12)
    links: list[tuple[int, int]] = []
    for start in range(0, len(vectors), _AT_ONCE):
        block = vectors[start : start + _AT_ONCE] @ vectors[start:].T  # (block, rows from start on)
        first, second = np.nonzero(block >= threshold)
        later = second > first
        links += zip((first[later] + start).tolist(), (second[later] + start).tolist(), strict=True)
    return links
