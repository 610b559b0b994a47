"""CSV and TSV: delimiters found or corrected, rows counted, broken tables refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.readers.refusals import fixes
from tunery.core.errors import ConfigError
from tunery.data.readers.formats.csv import DELIMITERS, read_delimited, sniff
from tunery.data.readers.storage.urls import InputFile
from tunery.data.rows.row import RawRow


def rows(
    tmp_path: Path,
    content: str,
    *,
    delimiter: str | None = None,
    wanted: tuple[str, ...] = (),
    max_row_bytes: int = 1000,
) -> list[RawRow]:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8", newline="")
    return list(read_delimited(InputFile(path, "a.csv", max_row_bytes), delimiter=delimiter, wanted=wanted))


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    content = f"text{delimiter}label\nhello there{delimiter}a\nbye{delimiter}b\n"
    assert [r.values for r in rows(tmp_path, content)] == [
        {"text": "hello there", "label": "a"},
        {"text": "bye", "label": "b"},
    ]


def test_commas_in_the_text_of_a_tab_separated_file_do_not_mislead() -> None:
    assert sniff(["text\tlabel\n", "one, two, three\tx\n", "a, b\ty\n"], ["text", "label"]) == "\t"


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(
    table=st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=8),
    delimiter=st.sampled_from(DELIMITERS),
)
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]], delimiter: str
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["text", "label"], *table])
    found = rows(tmp_path_factory.mktemp("t"), stream.getvalue(), delimiter=delimiter)
    missing = ("", "nan", "NaN")
    assert [list(r.values.values()) for r in found] == [
        [None if cell in missing else cell for cell in row] for row in table
    ]


def test_blank_lines_are_not_rows_and_quoted_line_ends_are_not_row_ends(tmp_path: Path) -> None:
    found = rows(tmp_path, 'text,label\n\n"two\nlines",a\n\nb,c\n')
    assert [(r.number, r.values["text"]) for r in found] == [(1, "two\nlines"), (2, "b")]


def test_a_wrong_delimiter_is_answered_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one column.*with ';' there are 2: text, label") as caught:
        rows(tmp_path, "text;label\na;b\nc;d\n", delimiter=",")
    assert "delimiter: ';'" in (caught.value.hint or "")


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="named twice in the header: 'text'"):
        rows(tmp_path, "text,label,text\na,b,c\n")


def test_rows_of_unequal_width_stop_no_other(tmp_path: Path) -> None:
    found = rows(tmp_path, "text,label\na,b\nc\nd,e,f\n")
    assert found[0].values == {"text": "a", "label": "b"}
    assert fixes(found) == [
        (2, "has 1 cells, the header 2; quote cells that contain the delimiter (line 3 of a.csv)"),
        (3, "has 3 cells, the header 2; quote cells that contain the delimiter (line 4 of a.csv)"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('text,label\n"never closed,b\n', "opened and never closed"),
        ('text,label\n"a" b,c\n', "written twice"),
        ("text,label\ra,b\rc,d", "carriage return"),
        (",\na,b\n", "first line is empty"),
    ],
)
def test_broken_quoting_and_line_ends_are_explained(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        rows(tmp_path, content)


def test_a_cell_that_swallows_the_file_is_refused_at_the_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the row that runs to line \d+ is longer than 1,000 bytes"):
        rows(tmp_path, 'text,label\na,b\n"open,c\n' + "filler,d\n" * 1000)


def test_a_stray_quote_inside_a_cell_does_not_count_towards_the_limit(tmp_path: Path) -> None:
    found = rows(tmp_path, 'text,label\n5" pipe,b\n' + "filler,d\n" * 1000)
    assert len(found) == 1001


def test_a_cell_longer_than_the_csv_modules_own_limit_is_read(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, f"text,label\n{'x' * 200_000},b\n", max_row_bytes=1_000_000)
    assert len(row.values["text"]) == 200_000
