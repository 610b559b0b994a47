"""Contradictions: prompts that say the same and are answered differently."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tunery.core.columns import Columns
from tunery.core.errors import listed
from tunery.core.figures import counted, one_line, percent
from tunery.core.finding import Edit, Finding, FindingKind
from tunery.inspect.evidence import Case, closed, finding
from tunery.inspect.likeness import Likeness
from tunery.text.sameness import cased, essence, repeats, words_alone

_CONTRADICTION = FindingKind(
    "contradiction",
    "Contradictions",
    "high",
    "Decide which answer is right; the edits set a clear majority's, where there is one.",
)
_NEAR = FindingKind(
    "near_contradiction",
    "Near contradictions",
    "medium",
    "Look at each pair and decide whether both answers are right.",
)
_SEVERAL = FindingKind(
    "several_answers", "Several answers", "low", "Keep the best answer of each where one reply is wanted."
)
KINDS = (_CONTRADICTION, _NEAR, _SEVERAL)

_CLEAR = 2 / 3
_CLEAR_ROWS = 2
_FEW_WORDS = 6
_FEW_WORDS_NEAR = 3
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CALL = re.compile(r"\w\(")
_CLOSING = re.compile(r"(?<=[^\W\d_][^\W\d_])[.!]+\Z")
_WORD = re.compile(r"[\w']+")
_OPEN_ENDED = re.compile(
    r"\b(?:synonyms?|antonyms?|opposite|suggest|generate|write|create|compose|give|examples?|provide|propose|"
    r"name (?:a|an|one|two|three|some)|list|think of|describe|re(?:write|phrase|word)|paraphrase|story|poem|"
    r"random|some|any|favou?rite|best)\b",
    re.I,
)
"""Prompts that have several right answers."""
_TURNS = re.compile(
    r"not?|never|without|cannot|unable|(?:ca|do|does|did|is|was|wo|have|has|could|would|should)n'?t|less|more|before|"
    r"after|from|to|in|out|on|off|up|down|over|under|min|max|minimum|maximum|highest|lowest|first|last"
)
"""Words that turn a question into another one."""


def find(columns: Columns, likeness: Likeness) -> Iterator[Finding]:
    """Find prompts with more than one answer.

    Returns:
        ``contradiction``: the same prompt with different classes, or with different short answers or
        numbers; the answers that are not a clear majority's (two thirds of the rows, two at least) get an
        edit to it. ``several_answers``: the same prompt with different long answers, which may all be
        right. ``near_contradiction``: prompts that differ in spelling or in words that turn nothing
        round, with different classes or very short answers. Of unpaired preferences ``contradiction`` alone:
        one answer to one prompt that is desirable in one row and undesirable in another.
    """
    answers = [_said(text) for text in columns.answers]
    if columns.desirable is not None:  # several answers to a prompt are what such rows are for
        yield from _judged_both_ways(columns, likeness, answers)
        return
    hard, soft = [], []
    edits: list[Edit] = []
    is_closed = closed(columns)
    for rows in likeness.same:
        if len({answers[i] for i in rows}) < 2:
            continue
        if not is_closed and not _clash(columns, rows):
            soft.append(_case(columns, rows, answers))
            continue
        hard.append(_case(columns, rows, answers))
        edits += _edits(columns, rows, answers)
    if hard:
        hard.sort(key=lambda case: (-len(case.rows), case.rows))
        message = f"{counted(len(hard), 'prompt has', 'prompts have')} different answers in different rows."
        yield finding(columns, _CONTRADICTION, message, hard, edits=edits, numbers={"prompts": len(hard)})
    if near := _near(columns, likeness, answers):
        message = f"{counted(len(near), 'pair')} of nearly equal prompts have different answers."
        yield finding(columns, _NEAR, message, near, numbers={"pairs": len(near)})
    if soft:
        message = f"{counted(len(soft), 'prompt has', 'prompts have')} several different answers."
        yield finding(columns, _SEVERAL, message, soft, numbers={"prompts": len(soft)})


def _judged_both_ways(columns: Columns, likeness: Likeness, answers: Sequence[str]) -> Iterator[Finding]:
    cases = []
    for same in likeness.same:
        by_answer: dict[str, list[int]] = defaultdict(list)
        for i in same:
            by_answer[answers[i]].append(i)
        for rows in by_answer.values():
            liked = Counter(columns.judged(i) for i in rows)
            if liked[True] and liked[False]:
                said = (
                    f"{columns.answers[rows[0]]!r:.80} is desirable in {counted(liked[True], 'row')}, "
                    f"undesirable in {liked[False]:,}"
                )
                cases.append(Case(tuple(rows), columns.prompts[rows[0]], said))
    if cases:
        cases.sort(key=lambda case: (-len(case.rows), case.rows))
        message = f"{counted(len(cases), 'answer is', 'answers are')} both desirable and undesirable."
        yield finding(columns, _CONTRADICTION, message, cases, numbers={"prompts": len(cases)})


def _said(answer: str) -> str:
    """Return what an answer says: case, a closing mark and spacing aside, its signs not."""
    return f"{words_alone(answer)}\n{_CLOSING.sub('', essence(answer))}"


def _clash(columns: Columns, rows: Sequence[int]) -> bool:
    """Tell whether free-text answers cannot all be right: short, or alike but for their numbers."""
    if _OPEN_ENDED.search(columns.prompts[rows[0]]):
        return False
    answers = [columns.answers[i] for i in rows]
    if any(_CALL.search(a) for a in answers):
        return False  # code says the same in many ways
    if all(len(a.split()) <= _FEW_WORDS for a in answers):
        return True
    without = {words_alone(_NUMBER.sub(" ", a)) for a in answers}
    return len(without) == 1  # only their numbers differ


def _case(columns: Columns, rows: Sequence[int], answers: Sequence[str]) -> Case:
    counts = Counter(answers[i] for i in rows)
    written = {answers[i]: columns.answers[i] for i in reversed(rows)}
    given = [f"{one_line(written[key], 60)!r} in {counted(n, 'row')}" for key, n in counts.most_common()]
    return Case(tuple(rows), columns.prompts[rows[0]], f"answered {listed(given, 5)}")


def _edits(columns: Columns, rows: Sequence[int], answers: Sequence[str]) -> list[Edit]:
    (usual, count), *_ = Counter(answers[i] for i in rows).most_common(1)
    if count < max(_CLEAR_ROWS, _CLEAR * len(rows)):
        return []
    value = Counter(columns.answers[i] for i in rows if answers[i] == usual).most_common(1)[0][0]
    return [
        Edit(row=columns.ids[i], action="set_output", value=value, reason="contradiction")
        for i in rows
        if answers[i] != usual
    ]


def _near(columns: Columns, likeness: Likeness, answers: Sequence[str]) -> list[Case]:
    """Return pairs of prompts that differ in little, with answers that do not."""
    is_closed = closed(columns)
    variants = {rows[0]: rows for rows in likeness.same}
    found = []
    for pair in likeness.near:
        first = variants.get(pair.first, [pair.first])
        second = variants.get(pair.second, [pair.second])
        if {answers[i] for i in first} & {answers[i] for i in second}:
            continue  # some rows agree; the others contradict their own twins, which is reported there
        a, b = first[0], second[0]
        if not is_closed and not all(len(columns.answers[i].split()) <= _FEW_WORDS_NEAR for i in (a, b)):
            continue
        if not is_closed and _OPEN_ENDED.search(columns.prompts[a]):
            continue
        if not _same_question(columns.prompts[a], columns.prompts[b]):
            continue
        both = " and ".join(repr(one_line(columns.answers[i], 60)) for i in (a, b))
        detail = f"{percent(pair.similarity)} alike, answered {both}"
        found.append((pair.similarity, Case((a, b), f"{columns.prompts[a]} / {columns.prompts[b]}", detail)))
    found.sort(key=lambda item: (-item[0], item[1].rows))
    return [case for _, case in found]


def _same_question(a: str, b: str) -> bool:
    if not repeats(a, b) or cased(a) != cased(b):
        return False
    ours, theirs = Counter(_WORD.findall(words_alone(a))), Counter(_WORD.findall(words_alone(b)))
    differ = (ours - theirs) + (theirs - ours)
    return not any(_TURNS.fullmatch(word) for word in differ)
