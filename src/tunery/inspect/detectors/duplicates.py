"""Duplicates: rows that repeat others exactly, nearly or in other words, within a split and across splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from tunery.core.columns import Columns
from tunery.core.figures import counted, percent_of
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.evidence import Case, drops, finding
from tunery.inspect.likeness import Likeness
from tunery.text.embeddings import Encoder
from tunery.text.features import unit
from tunery.text.minhash import join
from tunery.text.sameness import repeats

_EXACT = FindingKind("exact_duplicate", "Duplicates", "medium", "Keep one row of each group.")
_NEAR = FindingKind("near_duplicate", "Near duplicates", "low", "Keep one row of each group.")
_LEAK = FindingKind(
    "leak",
    "Held-out prompts in training",
    "high",
    "Take the training rows out, or give both rows one group.",
)
_SEMANTIC = FindingKind(
    "semantic_duplicate",
    "Duplicates in other words",
    "low",
    "Look at the groups and keep the best row of each.",
    is_guess=True,
)
_SEMANTIC_LEAK = FindingKind(
    "semantic_leak",
    "Held-out prompts in training, in other words",
    "medium",
    "Take the training rows out, or give both rows one group.",
    is_guess=True,
)
KINDS = (_EXACT, _NEAR, _LEAK, _SEMANTIC, _SEMANTIC_LEAK)

_AT_ONCE = 1024


def find(
    columns: Columns,
    likeness: Likeness,
    *,
    encoder: Encoder | None = None,
    semantic_threshold: float = 0.97,
    ignore: Collection[str] = (),
) -> Iterator[Finding]:
    """Find groups of rows whose prompts are the same, nearly so, or the same in other words.

    Without an encoder, other words are not looked at; with one, comparing is quadratic in rows.

    Returns:
        ``exact_duplicate`` (prompt and answer repeat), ``near_duplicate`` and ``semantic_duplicate`` (the
        prompts, with the same answer) within one split; ``leak``: a prompt of a held-out split that is
        exactly or nearly in training as well, and ``semantic_leak``. Edits take out later rows of a group, of
        a leak the training rows; what only an encoder finds has none.
    """
    exact = [rows for group in likeness.repeated for rows in _by_answer(columns, group)]
    near = [
        (p.first, p.second)
        for p in likeness.near
        if likeness.words[p.first] != likeness.words[p.second] and _same_answer(columns, p.first, p.second)
    ]
    every = [(g[0], i) for g in likeness.repeated for i in g[1:]]
    every += [(p.first, p.second) for p in likeness.near if _alike(columns, p.first, p.second)]
    count = len(columns)
    yield from _repeats(columns, exact, _EXACT, "repeat the prompt and the answer of an earlier row")
    near_words = "nearly repeat an earlier row with the same answer"
    yield from _repeats(columns, _joined(count, near), _NEAR, near_words)
    yield from _leaks(columns, _joined(count, every), _LEAK, "exactly or nearly")
    if encoder is not None and not {_SEMANTIC.name, _SEMANTIC_LEAK.name} <= set(ignore):
        known = {frozenset((p.first, p.second)) for p in likeness.near}
        links = [
            (a, b)
            for a, b in _links(columns, encoder, semantic_threshold)
            if likeness.words[a] != likeness.words[b] and frozenset((a, b)) not in known
        ]
        agreeing = [
            (a, b)
            for a, b in links
            if columns.answers[a] == columns.answers[b] and columns.judged(a) == columns.judged(b)
        ]
        words = "say in other words what an earlier row says, with the same answer"
        yield from _repeats(columns, _joined(count, agreeing), _SEMANTIC, words)
        yield from _leaks(columns, _joined(count, links), _SEMANTIC_LEAK, "in other words")


def _by_answer(columns: Columns, rows: Sequence[int]) -> list[list[int]]:
    answers: dict[tuple[str, str | None, bool | None], list[int]] = defaultdict(list)
    for i in rows:
        answers[columns.answers[i], columns.rejected[i], columns.judged(i)].append(i)
    return [same for same in answers.values() if len(same) > 1]


def _alike(columns: Columns, a: int, b: int) -> bool:
    """Tell whether two near prompts ask the same: those that differ in numbers or signs do not."""
    return repeats(columns.prompts[a], columns.prompts[b])


def _same_answer(columns: Columns, a: int, b: int) -> bool:
    return (
        columns.answers[a].split() == columns.answers[b].split()
        and columns.rejected[a] == columns.rejected[b]
        and columns.judged(a) == columns.judged(b)
        and _alike(columns, a, b)
    )


def _links(columns: Columns, encoder: Encoder, threshold: float) -> list[tuple[int, int]]:
    """Compare all prompts with each other, in blocks of matrix products."""
    vectors = unit(np.array(encoder(columns.prompts), dtype=np.float32))
    links: list[tuple[int, int]] = []
    for start in range(0, len(vectors), _AT_ONCE):
        block = vectors[start : start + _AT_ONCE] @ vectors[start:].T  # (block, rows from start on)
        first, second = np.nonzero(block >= threshold)
        later = second > first
        links += zip((first[later] + start).tolist(), (second[later] + start).tolist(), strict=True)
    return links


def _joined(count: int, links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the groups of two rows and more that links between ``count`` rows make."""
    if not links:
        return []
    members: dict[int, list[int]] = defaultdict(list)
    for i, root in enumerate(join(count, np.asarray(links, dtype=np.int64))):
        members[root].append(i)
    return [rows for rows in members.values() if len(rows) > 1]


def _repeats(
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
        Case(tuple(r), columns.prompts[r[0]], f"{counted(len(r), 'row')}, first {columns.where(r[0])}")
        for r in inside
    ]
    message = (
        f"{counted(len(extra), 'row')} ({percent_of(len(extra), len(columns))}) {what}, in "
        f"{counted(len(inside), 'group')}."
    )
    numbers = {"groups": len(inside), "rows": len(extra)}
    edits = [] if kind.is_guess else drops(columns, kind, extra)
    yield finding(columns, kind, message, cases, edits=edits, numbers=numbers)


def _leaks(
    columns: Columns, groups: Sequence[Sequence[int]], kind: FindingKind, how: str
) -> Iterator[Finding]:
    """Report the groups with rows both in training and held out; ``how`` completes 'rows say …'."""
    cases, trained, held = [], [], 0
    for group in groups:
        inside = [i for i in group if columns.splits[i] == "train"]
        outside = [i for i in group if columns.splits[i] != "train"]
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
