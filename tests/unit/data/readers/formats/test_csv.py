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
from tunery.data.rows.row import RawRow
from tunery.store.urls import InputFile


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


TABLE = [{"text": "a, b; c", "label": "x"}, {"text": 'two\nlines "q"', "label": "y"}]


def table(delimiter: str, ending: str, *, width: int = 2, header: int = 2) -> str:
    """Return :data:`TABLE` with its header and its rows filled up to a width, as spreadsheets do."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=ending)
    writer.writerow(["text", "label", *[""] * (header - 2)])
    writer.writerows([*row.values(), *[""] * (width - 2)] for row in TABLE)
    return stream.getvalue()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("said", "delimiter"),
    [
        ("sep=;", ";"),
        ("sep=,", ","),
        ("SEP=|", "|"),
        ("sep=\t", "\t"),
        ("sep=\\t", "\t"),
        ('"sep=;"', ";"),
        ("sep=;;;", ";"),
        ("sep=", ";"),
        ("sep=^", "^"),
    ],
)
def test_a_line_that_says_the_delimiter_is_no_part_of_the_table(
    tmp_path: Path, said: str, delimiter: str, ending: str, mark: str
) -> None:
    found = rows(tmp_path, f"{mark}{said}{ending}{table(delimiter, ending)}", wanted=("text",))
    assert [r.values for r in found] == TABLE
    assert [r.number for r in found] == [1, 2]


def test_lines_are_counted_from_the_first_of_the_file(tmp_path: Path) -> None:
    assert fixes(rows(tmp_path, "sep=;\ntext;label\na;b\nc\n"))[0][1].endswith("(line 4 of a.csv)")
    with pytest.raises(ConfigError, match="line 3: a quoted cell"):
        rows(tmp_path, 'sep=;\ntext;label\n"a;b\n')


def test_the_recipes_delimiter_goes_before_the_one_the_file_says(tmp_path: Path) -> None:
    assert rows(tmp_path, "sep=;\ntext,label\na,b\n", delimiter=",")[0].values == {"text": "a", "label": "b"}


def test_a_header_that_only_looks_like_such_a_line_is_one(tmp_path: Path) -> None:
    assert rows(tmp_path, "sep=,text\na,b\n")[0].values == {"sep=": "a", "text": "b"}


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("header", [2, 3, 6])
@pytest.mark.parametrize("width", [2, 3, 6])
def test_empty_cells_at_the_end_of_the_header_and_of_rows_name_no_column(
    tmp_path: Path, delimiter: str, header: int, width: int
) -> None:
    content = table(delimiter, "\n", header=header, width=width)
    assert [r.values for r in rows(tmp_path, content, delimiter=delimiter)] == TABLE


def test_what_stands_under_no_name_goes_by_its_place(tmp_path: Path) -> None:
    found = rows(tmp_path, ",text,label, ,\n0,a,b,,\n,c,d,e,\n2,f,g,,h\n")
    assert [r.values for r in found] == [
        {"(column 1)": "0", "text": "a", "label": "b"},
        {"text": "c", "label": "d", "(column 4)": "e"},
        {"(column 1)": "2", "text": "f", "label": "g", "(column 5)": "h"},
    ]


def test_a_row_that_lacks_a_named_cell_or_has_one_too_many_is_still_refused(tmp_path: Path) -> None:
    found = rows(tmp_path, "text,label,,\na\nb,c,,,d\ne,f\n")
    assert [number for number, _ in fixes(found)] == [1, 2]
    assert found[2].values == {"text": "e", "label": "f"}
