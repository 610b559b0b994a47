"""CSV and TSV: rows of a delimited file, with the delimiter found or checked."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from tunery.core.errors import ConfigError
from tunery.data.readers.storage.lines import read_lines, too_large
from tunery.data.rows.refused import broken
from tunery.data.rows.row import RawRow
from tunery.store.urls import InputFile

DELIMITERS = (",", ";", "\t", "|")
_SNIFFED_LINES = 50
_SNIFFED_CHARS = 1 << 20
"""Every delimiter is tried on the first lines, so a file of long ones is not read far [characters]."""
_MISSING = frozenset({"", "nan", "NaN"})
"""What pandas and numpy write for 'no value'. ``None``, ``NULL`` and ``N/A`` may be honest answers."""


_SAYS_DELIMITER = re.compile(r'"?sep=(\\t|[^\w"])?"?[,;\t|]*', re.IGNORECASE)
"""A tab perhaps by its escape, the whole perhaps quoted, and filled up to the width of the table."""


def said_delimiter(line: str) -> str | None:
    r"""Return the delimiter that a spreadsheet's line before the header names; None where it is the header.

    It is empty where the line names none.

    >>> [said_delimiter(line) for line in ("sep=;\r\n", '"sep=\t"', "sep=", "sep;text")]
    [';', '\t', '', None]

    Source:
        Excel reads and writes such a line; https://help.libreoffice.org/latest/en-US/text/shared/00/00000208.html
    """
    found = _SAYS_DELIMITER.fullmatch(line.strip("\r\n "))
    return None if found is None else (found[1] or "").replace("\\t", "\t")


def read_delimited(
    file: InputFile, *, delimiter: str | None, usual: str | None = None, wanted: Sequence[str]
) -> Iterator[RawRow]:
    """Yield the rows of a CSV file whose first line names the columns.

    A line ``sep=;`` before that one names the delimiter and is no part of the table. A header cell without
    a name names no column: what stands under it goes by its place, such as ``(column 3)``, and cells there
    may be missing at the end of a row; so may empty ones follow it. A row of another width comes as a
    :class:`~tunery.data.rows.refused.Refused` one.

    Args:
        file: Which.
        delimiter: The separator; None takes what the file says, or finds it.
        usual: What is taken where the file says nothing; None finds it.
        wanted: Columns that must exist; they also tell separators apart.

    Raises:
        ConfigError: Wrong delimiter, a column named twice, broken quoting, a row over the limit, or text that
            is not UTF-8; with line numbers.
    """
    head = _head(file)
    said = said_delimiter(head[0]) if head else None
    before = 0 if said is None else 1
    head = head[before:]
    chosen = delimiter or said or usual or sniff(head, wanted)
    # The csv module refuses fields over 128 KiB by default; the limit of a whole row is the one that counts.
    csv.field_size_limit(max(csv.field_size_limit(), file.max_row_bytes))
    meter = _RowMeter(file)
    reader = csv.reader(islice(meter.lines(), before, None), delimiter=chosen, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(header, head, chosen, wanted, file.name)
        number = 0
        width = len(header)
        names = [column or f"(column {i})" for i, column in enumerate(header, 1)]
        nameless = [n for n, column in zip(names, header, strict=True) if not column and n not in wanted]
        for cells in reader:
            meter.held = 0
            if not cells:
                continue  # A blank line.
            number += 1
            fitting = cells if len(cells) == width else _fitted(cells, header)
            if fitting is None:
                fix = (
                    f"has {len(cells)} cells, the header {width}; quote cells that contain the delimiter "
                    f"(line {before + reader.line_num} of {file.name})"
                )
                yield broken(number, fix, ", ".join(cells[:20]))
            elif _MISSING.isdisjoint(fitting):
                yield RawRow(number, dict(zip(names, fitting, strict=True)))
            else:
                missing = (None if c in _MISSING else c for c in fitting)
                values = dict(zip(names, missing, strict=True))
                for name in nameless:
                    if values[name] is None:
                        del values[name]
                yield RawRow(number, values)
    except csv.Error as error:
        raise ConfigError(f"{file.name}: line {before + reader.line_num}: {_explain(error)}") from None


def _fitted(cells: Sequence[str], header: Sequence[str]) -> Sequence[str] | None:
    """Return a row as wide as the header, where only cells that say nothing are missing or too many."""
    if any(header[len(cells) :]) or any(cell.strip() for cell in cells[len(header) :]):
        return None
    return [*cells[: len(header)], *[""] * (len(header) - len(cells))]


def _head(file: InputFile) -> list[str]:
    """Return the first lines of a file, the header whatever its length and others while they are short."""
    head: list[str] = []
    size = 0
    for line in islice(read_lines(file), _SNIFFED_LINES):
        size += len(line)
        if head and size > _SNIFFED_CHARS:
            break
        head.append(line)
    return head


def sniff(lines: Sequence[str], wanted: Sequence[str]) -> str:
    """Return the delimiter under which the first lines make the best table.

    A delimiter that yields the wanted columns wins; then the one under which most lines have as many
    cells as the header, more than one; then the comma.
    """

    def score(delimiter: str) -> tuple[int, float, int]:
        rows = _parse(lines, delimiter)
        if not rows or len(rows[0]) < 2:
            return (0, 0.0, 0)
        header = {cell.strip() for cell in rows[0]}
        regular = sum(len(r) == len(rows[0]) for r in rows) / len(rows)
        return (sum(w in header for w in wanted), regular, len(rows[0]))

    return max(DELIMITERS, key=score)


def _parse(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return []


class _RowMeter:
    """Hands lines to the csv reader and refuses a row that swallows more of them than a row may hold."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self.held = 0
        """Characters of the row at hand; to be set to 0 where one begins."""

    def lines(self) -> Iterator[str]:
        """Yield the file's lines."""
        for number, line in enumerate(read_lines(self._file), 1):
            self.held += len(line)
            if self.held > self._file.max_row_bytes:
                raise too_large(
                    self._file.name, f"the row that runs to line {number}", self._file.max_row_bytes
                )
            yield line


def _check_header(
    header: Sequence[str], lines: Sequence[str], delimiter: str, wanted: Sequence[str], name: str
) -> None:
    if not any(header):
        raise ConfigError(f"{name}: the first line is empty; it must name the columns")
    twice = sorted(column for column, count in Counter(header).items() if column and count > 1)
    if twice:
        raise ConfigError(
            f"{name}: {'columns' if len(twice) > 1 else 'column'} named twice in the header: "
            + ", ".join(repr(c) for c in twice),
            hint="rename one of them in the first line of the file",
        )
    better = sniff(lines, wanted)
    if len(header) == 1 and better != delimiter:
        columns = [c.strip() for c in (_parse(lines[:1], better) or [[]])[0]]
        if len(columns) > 1:
            raise ConfigError(
                f"{name}: with delimiter {delimiter!r} there is one column, {header[0]!r:.60}; "
                f"with {better!r} there are {len(columns)}: {', '.join(columns[:10])}",
                hint=f"set delimiter: {better!r} for this source, or leave it out",
            )


def _explain(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quoted cell is opened and never closed"
    if "new-line character" in text:
        return "lines end in a bare carriage return; save the file with Unix or Windows line ends"
    if "expected after" in text:
        return "text follows a closing quote; a quote inside a quoted cell is written twice"
    return text
