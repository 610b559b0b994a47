"""Review: findings as a spreadsheet for people who know the field, and their decisions as edits."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from tunery.core.columns import Columns
from tunery.core.errors import ConfigError, ConflictError, ResourceError, did_you_mean
from tunery.core.finding import Action, Edit, Finding, Severity
from tunery.data.readers.formats.csv import said_delimiter, sniff
from tunery.data.readers.storage.lines import read_lines
from tunery.store.spreadsheet import unescaped, write_sheet
from tunery.store.urls import InputFile

HEADER = ("id", "split", "input", "output", "problem", "suggestion", "decision", "new_output", "note")
DECISIONS = ("keep", "drop", "change")
_ACTIONS: dict[str, Action] = {"drop": "drop", "change": "set_output"}
REASON = "review"

_CELL_CHARS = 32_000
"""Excel holds 32,767 characters in a cell and spills the rest into the next row."""
_MAX_LINE_BYTES = 16 * 1_048_576
_SHOWN = 50
_ANSWER = "answer: "
_NEEDED = ("id", "decision", "new_output")


class Review(NamedTuple):
    """What a reviewer decided."""

    edits: tuple[Edit, ...]
    kept: int
    """Rows decided to stay as they are [count]."""
    undecided: int
    """Rows without a decision; they stay as they are [count]."""
    notes: Mapping[str, str]
    """Row id to what the reviewer wrote beside it."""
    warnings: tuple[str, ...]
    """What may have been meant otherwise."""


def check_free(path: Path, *, replace: bool) -> None:
    """Refuse to write a sheet over another, or over anything else, where it may not be replaced.

    Raises:
        ConflictError: There is something.
    """
    if path.exists() and not replace:
        raise ConflictError(
            f"{path} is there already; decisions in it would be lost",
            hint="add --replace, or name another file",
        )


def export_review(
    path: Path,
    columns: Columns,
    findings: Sequence[Finding],
    *,
    kinds: Sequence[str] = (),
) -> int:
    """Write the rows that findings name as a CSV file, one line a row, the most serious first.

    Args:
        path: The file; replaced where it exists.
        columns: The dataset version.
        findings: As the detectors found them.
        kinds: Only findings of these kinds; all where empty.

    Returns:
        Rows written [count].

    Raises:
        ConfigError: No finding names a row.
        ResourceError: The place cannot be written.
    """
    chosen = sorted(
        (f for f in findings if f.rows and (not kinds or f.kind in kinds)),
        key=lambda f: get_args(Severity).index(f.severity),
    )
    problems: dict[str, list[str]] = defaultdict(list)
    suggestions: dict[str, list[str]] = defaultdict(list)
    for finding in chosen:
        details = {row: e.detail or e.text for e in reversed(finding.evidence) for row in e.rows}
        for row in finding.rows:
            problem = details.get(row, finding.fix)
            problems[row].append(f"{finding.kind.replace('_', ' ')}: {problem}")
        for edit in finding.edits:
            suggestions[edit.row].append(_suggestion(edit))
    if not problems:
        raise ConfigError(
            "no finding names a row, so there is nothing to review", hint="tunery data inspect RECIPE"
        )
    place = {row: i for i, row in enumerate(columns.ids)}
    lines = (
        [
            row,
            columns.splits[place[row]],
            _cut(columns.prompts[place[row]]),
            _cut(columns.answers[place[row]]),
            _cut("; ".join(dict.fromkeys(found))),
            _suggested(list(dict.fromkeys(suggestions[row]))),
            *("", "", ""),
        ]
        for row, found in problems.items()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_sheet(path, HEADER, lines)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror or error}") from None


def _suggestion(edit: Edit) -> str:
    if edit.action == "drop":
        return "drop"
    what = {"set_output": _ANSWER, "set_input": "input: ", "set_rejected": "rejected: "}[edit.action]
    return f"{what}{edit.value}"


def _suggested(suggestions: Sequence[str]) -> str:
    """Return what the sheet suggests; ``change`` may take it only where it is a single whole answer."""
    if len(suggestions) > 1:
        return _cut(f"one of: {'; '.join(suggestions)}")
    text = _cut(suggestions[0]) if suggestions else ""
    return text if text in ("", *suggestions) else f"begins: {text}"


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_CHARS else f"{text[:_CELL_CHARS]} … ({len(text):,} characters)"


class _Line(NamedTuple):
    number: int
    """Row of the sheet as a spreadsheet counts: the header is row 1."""
    cells: Mapping[str, str]


def import_review(
    path: Path, columns: Columns, *, reviewer: str, labels: Sequence[str] | None = None
) -> Review:
    """Read decisions from a sheet that :func:`export_review` wrote and a person filled in.

    Commas, semicolons and tabs are taken as they come, with any line ends. Columns may stand in any order and
    others may have been added. ``drop`` takes the row out; ``change`` replaces its answer by ``new_output``,
    or by the suggested answer where that is empty; ``keep`` and no decision leave it as it is.

    Args:
        path: The file.
        columns: The dataset version that it was written from.
        reviewer: Who decided; recorded with every edit.
        labels: The closed set of answers; an answer outside it is warned of.

    Raises:
        ConfigError: Columns are missing, a decision is unknown, an id is not in the data, a change has no new
            answer, or a row is decided twice; every row concerned is named.
    """
    if not reviewer.strip():
        raise ConfigError("decisions need the name of who made them", hint="--reviewer NAME")
    place = {row: i for i, row in enumerate(columns.ids)}
    problems: list[str] = []
    warnings: list[str] = []
    decided: dict[str, tuple[int, str, str | None]] = {}
    notes: dict[str, str] = {}
    for line in _lines(path):
        row = line.cells.get("id", "").strip()
        decision = line.cells.get("decision", "").strip().casefold()
        if row not in place:
            problems.append(f"row {line.number}: no example {row!r:.60} in this dataset version")
            continue
        if decision and decision not in DECISIONS:
            meant = did_you_mean(decision, DECISIONS)
            problems.append(
                f"row {line.number}: decision {decision!r:.40} is none of {', '.join(DECISIONS)}{meant}"
            )
            continue
        value = _new_answer(line, decision, columns.answers[place[row]], problems, warnings)
        earlier = decided.setdefault(row, (line.number, decision, value))
        if earlier[1:] != (decision, value):
            problems.append(f"row {line.number}: {row} was decided otherwise in row {earlier[0]}")
        if line.cells.get("note", "").strip():
            notes[row] = line.cells["note"].strip()
    if problems:
        raise ConfigError.of_problems(path.name, problems, limit=_SHOWN)
    edits = tuple(
        Edit(row=row, action=_ACTIONS[decision], value=_as_class(value, labels), reason=REASON, by=reviewer)
        for row, (_, decision, value) in decided.items()
        if decision in _ACTIONS
    )
    if labels is not None:
        warnings += _unknown_labels(edits, labels)
    decisions = [decision for _, decision, _ in decided.values()]
    return Review(edits, decisions.count("keep"), decisions.count(""), notes, tuple(warnings))


def _new_answer(
    line: _Line, decision: str, answer: str, problems: list[str], warnings: list[str]
) -> str | None:
    """Return the new answer of a change; say what is missing, and what was perhaps meant as one."""
    given = line.cells.get("new_output", "")
    answer_in_sheet = line.cells.get("output")
    if decision != "change":
        if given.strip() and not decision:
            problems.append(
                f"row {line.number}: new_output is given; write 'change' as the decision to use it"
            )
        elif answer_in_sheet is not None and _plain(answer_in_sheet) != _plain(_cut(answer)):
            warnings.append(f"row {line.number}: the output column was edited; only new_output is read")
        return None
    if given.strip():
        return given
    suggestion = line.cells.get("suggestion", "")
    if suggestion.startswith(_ANSWER) and suggestion != _ANSWER:
        return suggestion.removeprefix(_ANSWER)
    problems.append(f"row {line.number}: decision 'change' needs a new_output")
    return None


def _as_class(value: str | None, labels: Sequence[str] | None) -> str | None:
    """Return an answer; one that is a class but for space that a spreadsheet hides is that class."""
    bare = (value or "").strip()
    return bare if labels is not None and bare in labels and value not in labels else value


def _plain(text: str) -> str:
    return " ".join(text.split())


def _unknown_labels(edits: Sequence[Edit], labels: Sequence[str]) -> Iterator[str]:
    known = set(labels)
    new = dict.fromkeys(e.value for e in edits if e.value is not None and e.value.strip() not in known)
    for value in new:
        meant = did_you_mean(value, labels)
        yield f"the new answer {value!r:.60} is none of the {len(known):,} classes{meant}"


def _lines(path: Path) -> Iterator[_Line]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file", hint="tunery data fix RECIPE --export-review FILE.csv")
    texts = [*read_lines(InputFile(path, path.name, _MAX_LINE_BYTES))]
    said = said_delimiter(texts[0]) if texts else None
    texts = texts if said is None else texts[1:]
    delimiter = said or sniff(texts[:50], HEADER)
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE_BYTES))
    try:
        rows = list(csv.reader(texts, delimiter=delimiter))
    except csv.Error as error:
        raise ConfigError(f"{path.name}: not a readable CSV file: {error}") from None
    header = [cell.strip().casefold() for cell in rows[0]] if rows else []
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        raise ConfigError(
            f"{path.name}: no column {', '.join(map(repr, missing))} (there is: {', '.join(header[:12])})",
            hint="tunery data fix RECIPE --export-review FILE.csv writes a sheet to fill in",
        )
    for number, cells in enumerate(rows[1:], start=2):
        # Excel leaves out empty cells at the end of some rows and adds some to others.
        if any(cell.strip() for cell in cells):
            yield _Line(number, {n: unescaped(c) for n, c in zip(header, cells, strict=False) if n})
