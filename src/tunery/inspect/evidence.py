"""Evidence: how rows with trouble become a finding: shortened, without secrets, ten of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tunery.core.columns import Columns
from tunery.core.finding import Action, Edit, Evidence, Finding, FindingKind
from tunery.text.pii.mask import redact

FEWEST_ROWS = 20
"""Rows that must show something before their majority says anything [rows]."""
_EVIDENCE = 10
_EXCERPT_CHARS = 200
_BEFORE = 60
_SPACE = re.compile(r"\s+")


_T = TypeVar("_T", bound=Hashable)


class TextColumn(NamedTuple):
    """One text of every row."""

    name: str
    """``prompt``, ``answer`` or ``rejected answer``."""
    action: Action
    """What an edit that replaces it is called."""
    texts: Sequence[str]


class Case(NamedTuple):
    """One row, or rows that belong together, with the trouble."""

    rows: tuple[int, ...]
    """Positions in the columns."""
    text: str
    """The words themselves; shortened when shown."""
    detail: str = ""
    at: int = 0
    """Where in the text the trouble is, so that the shortened text shows it."""


def text_columns(columns: Columns, inputs: Sequence[str] | None = None) -> list[TextColumn]:
    """Return the texts of a dataset that an edit can replace; a missing rejected answer is empty.

    Where prompts have several turns, ``inputs`` are the last ones, which an edit replaces.
    """
    found = [
        TextColumn("prompt", "set_input", columns.prompts if inputs is None else inputs),
        TextColumn("answer", "set_output", columns.answers),
    ]
    if any(text is not None for text in columns.rejected):
        found.append(TextColumn("rejected answer", "set_rejected", [text or "" for text in columns.rejected]))
    return found


def usual(values: Iterable[_T], majority: float) -> tuple[_T, int] | None:
    """Return the value of almost all and how many have it; None where there is none, or too few to tell."""
    counts = Counter(values)
    if counts.total() < FEWEST_ROWS:
        return None
    value, count = counts.most_common(1)[0]
    return (value, count) if count >= majority * counts.total() else None


def closed(columns: Columns) -> bool:
    """Tell whether answers are classes of a closed set."""
    return any(label is not None for label in columns.labels)


def finding(
    columns: Columns,
    kind: FindingKind,
    message: str,
    cases: Sequence[Case],
    *,
    edits: Iterable[Edit] = (),
    numbers: Mapping[str, Any] | None = None,
) -> Finding:
    """Return the finding that cases make, most serious first; the first ten are its evidence."""
    rows = dict.fromkeys(i for case in cases for i in case.rows)
    return Finding(
        kind=kind.name,
        severity=kind.severity,
        message=message,
        rows=tuple(columns.ids[i] for i in rows),
        evidence=tuple(
            Evidence(
                rows=tuple(columns.ids[i] for i in case.rows[:_EVIDENCE]),
                text=_excerpt(case),
                detail=redact(case.detail),
            )
            for case in cases[:_EVIDENCE]
        ),
        fix=kind.fix,
        edits=tuple(edits),
        numbers=dict(numbers or {}),
    )


def drops(columns: Columns, kind: FindingKind, rows: Iterable[int]) -> list[Edit]:
    """Return the edits that take rows out."""
    return [Edit(row=columns.ids[i], action="drop", reason=kind.name) for i in rows]


def _excerpt(case: Case) -> str:
    """Return a case's text on one line, some 200 characters of it, around where the trouble is."""
    text = redact(case.text)  # before it is shortened: half a key would not be known for one
    at = case.at if text == case.text else len(redact(case.text[: case.at]))
    start = 0 if at < _EXCERPT_CHARS - _BEFORE else at - _BEFORE
    piece = _SPACE.sub(" ", text[start : start + _EXCERPT_CHARS]).strip()
    return f"{'… ' if start else ''}{piece}{' …' if len(text) > start + _EXCERPT_CHARS else ''}"
