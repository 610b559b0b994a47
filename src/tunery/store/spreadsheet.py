"""Spreadsheet cells: text that Excel and others must show and never run, and that comes back as it was."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from tunery.store.whole_file import write_whole

_STARTS = frozenset("=+-@\t\r\n＝＋－＠")
"""What makes a cell a formula, alone or once leading white space is cut off; the wide forms do so too."""
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
