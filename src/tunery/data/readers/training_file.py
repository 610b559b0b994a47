"""Training files as the OpenAI API takes them: JSON Lines, checked row by row, every problem listed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
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
from tunery.data.rows.row import BadRow, Flaw, RawRow, UnusableRow
from tunery.store.urls import InputFile

MINIMUM_ROWS = 10
_MAX_PROBLEMS = 50
_ACCEPTED: tuple[Shape, ...] = ("chat", "preference", "completion")


class FileCheck(NamedTuple):
    """What a look at a training file found."""

    shape: Shape | None
    """``chat``, ``preference`` or ``completion``; None where no row shows one."""
    rows: int
    """Rows read; blank lines are none [count]."""
    problems: list[str]
    """One sentence each, with row number, field, value and fix; the first 50. Empty when all is well."""


class CheckBudget(NamedTuple):
    """What the check of one file may take, and the settings that say so."""

    rows: int
    """Lines, blank ones counted [count]."""
    bytes: int
    """Size of all lines, unpacked [bytes]."""
    seconds: float
    settings: tuple[str, str, str]
    """Names of the three settings, for the message."""


def check_training_file(path: Path, budget: CheckBudget | None = None) -> FileCheck:
    """Check an uploaded fine-tuning file; a bad row never stops the look at the others.

    The shape is that of the first row that has one; rows of another shape are problems.

    Args:
        path: JSON Lines, one example a row: ``{"messages"}``, ``{"prompt", "completion"}`` or ``{"input",
            "preferred_output", "non_preferred_output"}``.
        budget: What the check may take; no bound where None.

    Returns:
        Shape, number of rows and problems; what cannot be read at all, or is over the budget, is one too.
    """
    check = _Check(path, budget)
    found = check.problems()
    first = list(islice(found, _MAX_PROBLEMS))
    total = len(first) + sum(1 for _ in found)
    if not total and not check.rows:
        first = ["the file has no rows"]
    elif not total and check.rows < MINIMUM_ROWS:
        first = [f"the file has {check.rows} rows; at least {MINIMUM_ROWS} are needed"]
    shape = check.mapped.shape if check.mapped else None
    return FileCheck(shape, check.rows, first_of(first, _MAX_PROBLEMS, total=max(total, len(first))))


def require_training_file(path: Path, filename: str) -> FileCheck:
    """Check a file as :func:`check_training_file` does, and refuse it when anything is wrong.

    Raises:
        ConfigError: Lists the problems, under the name the user gave the file.
    """
    return refuse_problems(check_training_file(path), filename)


def refuse_problems(check: FileCheck, filename: str) -> FileCheck:
    """Return a check that found nothing wrong.

    Raises:
        ConfigError: Lists the problems, under the name the user gave the file.
    """
    if check.problems:
        raise ConfigError.of_problems(filename, check.problems)
    return check


class _Check:
    """One pass over a file: how many rows it has so far, and how they are read once one has shown it."""

    def __init__(self, path: Path, budget: CheckBudget | None) -> None:
        self._path = path
        self._budget = budget
        self._source = SourceConfig(path=path.name, format="jsonl")
        self.mapped: Mapped | None = None
        self.rows = 0

    def problems(self) -> Iterator[str]:
        """Yield what is wrong, in the order of the rows."""
        try:
            lines = read_lines(InputFile(self._path, self._path.name, self._source.max_row_bytes))
            for text in lines if self._budget is None else _within(lines, self._budget):
                if not text.isspace():
                    self.rows += 1
                    yield from (f"row {self.rows}: {problem}" for problem in self._problems_of(text))
        except ConfigError as error:
            yield error.message

    def _problems_of(self, text: str) -> list[str]:
        try:
            values = parse_object(text)
            shape = shape_of_keys(values)
            if shape not in _ACCEPTED:
                raise BadRow(Flaw("(keys)", ", ".join([*values][:6]), _SHAPES_FIX))
            self.mapped = self.mapped or map_columns(self._source, values)
            if shape != self.mapped.shape:
                fix = f"this is a {shape} row in a {self.mapped.shape} file; upload one shape a file"
                raise BadRow(Flaw("(keys)", ", ".join([*values][:6]), fix))
            parse_row(RawRow(self.rows, values), self.mapped, self._source)
        except BadRow as bad:
            return [sentence(flaw) for flaw in bad.flaws]
        except UnusableRow as unusable:
            return [f"{unusable.drop.detail}; {_FIXES.get(unusable.drop.reason, 'remove the row')}"]
        return []


def _within(lines: Iterator[str], budget: CheckBudget) -> Iterator[str]:
    """Pass lines on until they are more than a check may take.

    Raises:
        ConfigError: The budget is spent; names the setting.
    """
    ends_at, size = time.monotonic() + budget.seconds, 0
    for count, line in enumerate(lines):
        if count >= budget.rows:
            raise ConfigError(f"the file has over {budget.rows:,} lines, the limit of {budget.settings[0]}")
        size += len(line)  # characters, of which each is a byte or more
        if size > budget.bytes:
            limit = f"{budget.bytes:,} bytes, the limit of {budget.settings[1]}"
            raise ConfigError(f"the file unpacks to over {limit}")
        if count % 64 == 0 and time.monotonic() > ends_at:
            limit = f"{budget.seconds:g} s, the limit of {budget.settings[2]}"
            raise ConfigError(f"checking the file takes over {limit}; row {count:,} is as far as it came")
        yield line


_FIXES = {
    "empty_input": "write the prompt, or remove the row",
    "empty_output": "write the answer, or remove the row",
    "no_trained_turn": "give one assistant turn weight 1",
}
_SHAPES_FIX = "needs messages, or prompt and completion, or input, preferred_output and non_preferred_output"
