"""Training files as the OpenAI API takes them: JSON Lines, checked row by row, every problem told."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tunery.core.dataset import Shape
from tunery.core.errors import ConfigError, first_of
from tunery.data.config import SourceConfig
from tunery.data.conversations.parse import parse_row
from tunery.data.conversations.shapes import Mapped, map_columns, shape_of_keys
from tunery.data.readers.formats.json import parse_object
from tunery.data.readers.storage.lines import read_lines
from tunery.data.rows.flaws import sentence
from tunery.data.rows.row import BadRow, Flaw, UnusableRow

MINIMUM_ROWS = 10
_MAX_PROBLEMS = 50
_ACCEPTED: tuple[Shape, ...] = ("chat", "preference", "completion")


class FileCheck(NamedTuple):
    """What a look at a training file found."""

    shape: Shape | None
    """``chat``, ``preference`` or ``completion``; None where no row tells."""
    rows: int
    """Rows read; blank lines are none [count]."""
    problems: list[str]
    """One sentence each, with row number, field, value and fix; the first 50. Empty when all is well."""


class _Flaws:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.more = 0

    def add(self, problem: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more += 1

    def lines(self) -> list[str]:
        return first_of(self.problems, _MAX_PROBLEMS, total=len(self.problems) + self.more)


def check_training_file(path: Path) -> FileCheck:
    """Check an uploaded fine-tuning file; a bad row never stops the look at the others.

    The shape is that of the first row that has one; rows of another shape are problems.

    Args:
        path: JSON Lines, one example a row: ``{"messages"}``, ``{"prompt", "completion"}`` or ``{"input",
            "preferred_output", "non_preferred_output"}``.

    Returns:
        Shape, number of rows and problems; what cannot be read at all is a problem too.
    """
    source = SourceConfig(path=path.name, format="jsonl")
    flaws = _Flaws()
    mapped: Mapped | None = None
    rows = 0
    try:
        for line in read_lines(path, path.name, max_bytes=source.max_row_bytes):
            if line.text.strip():
                rows += 1
                mapped = _check_row(rows, line.text, mapped, source, flaws)
    except ConfigError as error:
        flaws.add(error.message)
    if not rows and not flaws.problems:
        flaws.add("the file has no rows")
    elif rows < MINIMUM_ROWS and not flaws.problems:
        flaws.add(f"the file has {rows} rows; at least {MINIMUM_ROWS} are needed")
    return FileCheck(mapped.shape if mapped else None, rows, flaws.lines())


def require_training_file(path: Path, filename: str) -> FileCheck:
    """Check a file as :func:`check_training_file` does, and refuse it when anything is wrong.

    Args:
        path: The file.
        filename: What the user calls it.

    Raises:
        ConfigError: Lists the problems.
    """
    check = check_training_file(path)
    if check.problems:
        raise ConfigError.of_problems(filename, check.problems)
    return check


def _check_row(
    number: int, text: str, mapped: Mapped | None, source: SourceConfig, flaws: _Flaws
) -> Mapped | None:
    """Check one row and return how the file is read, once a row has told it."""
    try:
        values = parse_object(text)
        shape = shape_of_keys(values)
        if shape not in _ACCEPTED:
            raise BadRow(_shapeless(list(values)))
        mapped = mapped or map_columns(source, values)
        if shape != mapped.shape:
            fix = f"this is a {shape} row in a {mapped.shape} file; upload one shape a file"
            raise BadRow(Flaw("(keys)", ", ".join(list(values)[:6]), fix))
        parse_row(values, mapped, source)
    except BadRow as bad:
        for flaw in bad.flaws:
            flaws.add(f"row {number}: {sentence(flaw)}")
    except UnusableRow as unusable:
        flaws.add(
            f"row {number}: {unusable.drop.detail}; {_FIXES.get(unusable.drop.reason, 'remove the row')}"
        )
    return mapped


_FIXES = {
    "empty_input": "write the prompt, or remove the row",
    "empty_output": "write the answer, or remove the row",
    "no_trained_turn": "give one assistant turn weight 1",
}


def _shapeless(keys: list[str]) -> Flaw:
    fix = "needs messages, or prompt and completion, or input, preferred_output and non_preferred_output"
    return Flaw("(keys)", ", ".join(keys[:6]), fix)
