"""Duplicates: rows that repeat others exactly or nearly, within a split and across splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.finding import Finding, FindingKind
from tunery.inspect.likeness import Likeness
from tunery.inspect.repeats import joined, leaks, repeats

_EXACT = FindingKind("exact_duplicate", "Duplicates", "medium", "Keep one row of each group.")
_NEAR = FindingKind("near_duplicate", "Near duplicates", "low", "Keep one row of each group.")
_LEAK = FindingKind(
    "leak",
    "Held-out prompts in training",
    "high",
    "Take the training rows out, or give both rows one group.",
)
KINDS = (_EXACT, _NEAR, _LEAK)

_NUMBER = re.compile(r"\d+")


def find(columns: Columns, likeness: Likeness) -> Iterator[Finding]:
    """Find groups of rows whose prompts are the same or nearly so.

    Args:
        columns: The rows.
        likeness: Their prompts compared.

    Returns:
        ``exact_duplicate`` (prompt and answer repeat) and ``near_duplicate`` (the prompts, with the same
        answer) within one split; ``leak``: a prompt of a held-out split that is exactly or nearly in training
        as well. Edits take out later rows of a group, of a leak the training rows.
    """
    exact = [rows for group in likeness.same for rows in _by_answer(columns, group)]
    near = [(p.first, p.second) for p in likeness.near if _same_answer(columns, p.first, p.second)]
    every = [(g[0], i) for g in likeness.same for i in g[1:]]
    every += [(p.first, p.second) for p in likeness.near if _alike(columns, p.first, p.second)]
    count = len(columns)
    yield from repeats(columns, exact, _EXACT, "repeat the prompt and the answer of an earlier row")
    near_words = "nearly repeat an earlier row with the same answer"
    yield from repeats(columns, joined(count, near), _NEAR, near_words)
    yield from leaks(columns, joined(count, every), _LEAK, "exactly or nearly")


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
