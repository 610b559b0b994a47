"""Spreadsheet cells: text that Excel and others must show and never run, and that comes back as it was."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tunery.core.errors import ConfigError
from tunery.store.whole_file import write_whole

_STARTS = frozenset("=+-@\t\r\n＝＋－＠")
"""What makes a cell a formula, alone or once leading white space is cut off; the wide forms do so too."""
_DELIMITERS = (",", ";", "\t", "|")
"""What programs separate cells by, depending on where in the world they run."""
_LONGEST_CELL = 16 * 1024 * 1024
_MISSING = frozenset({"nan", "NaN"})
"""Words that our CSV reader takes for 'no value', as pandas writes it."""


def escaped(text: str) -> str:
    """Return text with an apostrophe before it where a spreadsheet would run it or a reader lose it.

    :func:`unescaped` gives back exactly ``text``, whatever it is.

    >>> escaped("=1+1"), escaped("1+1")
    ("'=1+1", '1+1')
    """
    return f"'{text}" if _needs(text) or (text[:1] == "'" and _hides(text[1:])) else text


def unescaped(cell: str) -> str:
    """Return what :func:`escaped` was given; a cell that a person typed stays as it is.

    >>> unescaped("'=1+1"), unescaped("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell[:1] == "'" and _hides(cell[1:]) else cell


def _needs(text: str) -> bool:
    return text[:1] in _STARTS or text in _MISSING


def _hides(rest: str) -> bool:
    """Tell whether an apostrophe before ``rest`` would be taken for one of ours."""
    return _needs(rest) or rest[:1] == "'"


def write_sheet(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Write a CSV file for spreadsheets: UTF-8 with its mark, CRLF, every cell escaped.

    A file that is there is replaced once the new one is whole.

    Returns:
        Rows written [count].
    """
    count = 0
    with write_whole(path) as stream:
        # Without the mark Excel takes the bytes for the machine's old code page.
        stream.write("\ufeff")
        writer = csv.writer(stream)
        writer.writerow(header)
        for row in rows:
            writer.writerow([escaped(cell) for cell in row])
            count += 1
    return count


class SheetRow(NamedTuple):
    """A row of a sheet that a person filled in."""

    number: int
    """As the spreadsheet counts, the header being row 1."""
    cells: Mapping[str, str]
    """Column to what :func:`write_sheet` was given, or what the person typed; none is missing."""


def read_sheet(path: Path, needed: Sequence[str]) -> list[SheetRow]:
    """Read back a sheet of :func:`write_sheet` that any spreadsheet program has saved.

    With or without a mark of UTF-8, separated by comma, semicolon, tab or bar, with ``sep=;`` before the
    header, with cells left out or added at the end of rows, with rows that are empty.

    Args:
        path: The file.
        needed: Columns that must be there, in any case of letters.

    Raises:
        ConfigError: It is missing, is not UTF-8, is no table, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:  # line breaks in cells stay as they are
            text = stream.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path.name}: not UTF-8 text (byte {error.start})", hint="save the sheet as 'CSV UTF-8'"
        ) from None
    first, _, rest = text.partition("\n")
    said = first.strip().casefold().startswith("sep=")
    text = rest if said else text
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))

    def header_of(delimiter: str) -> list[str]:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [cell.strip().casefold() for cell in next(rows, [])]

    try:
        delimiter = max(_DELIMITERS, key=lambda d: sum(name in header_of(d) for name in needed))
        header = header_of(delimiter)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[1:]
    except csv.Error as error:
        raise ConfigError(f"{path.name}: not a readable CSV file: {error}") from None
    if missing := [name for name in needed if name not in header]:
        there = ", ".join(header[:12])
        raise ConfigError(f"{path.name}: no column {', '.join(map(repr, missing))} (there is: {there})")
    found = []
    for number, cells in enumerate(rows, start=3 if said else 2):
        if any(cell.strip() for cell in cells):
            filled = [*cells, *[""] * (len(header) - len(cells))]
            found.append(SheetRow(number, dict(zip(header, map(unescaped, filled), strict=False))))
    return found
