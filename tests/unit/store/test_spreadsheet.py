"""Spreadsheet cells: nothing runs, nothing is lost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.data.readers.formats.csv import read_delimited
from tunery.store.spreadsheet import escaped, unescaped, write_sheet
from tunery.store.urls import InputFile

TEXTS = st.text(st.one_of(st.sampled_from("'=+-@\t\r\nnaN＝;,\"a"), st.characters(exclude_categories=["Cs"])))


@given(TEXTS)
def test_a_cell_comes_back_as_it_was(text: str) -> None:
    assert unescaped(escaped(text)) == text


@given(TEXTS)
def test_no_escaped_cell_begins_like_a_formula(text: str) -> None:
    assert escaped(text)[:1] not in set("=+-@\t\r\n＝＋－＠")


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "nan"])
def test_what_would_run_or_be_lost_gets_an_apostrophe(text: str) -> None:
    assert escaped(text) == f"'{text}"


@pytest.mark.parametrize("text", ["1-1", "a=b", "'tis", "", "None"])
def test_other_text_is_left_alone(text: str) -> None:
    assert escaped(text) == text
    assert unescaped(text) == text


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_a_sheet_comes_back_through_a_csv_reader(tmp_path_factory, rows) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("sheet") / "s.csv"
    assert write_sheet(path, ["a", "b"], rows) == len(rows)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        read = list(csv.reader(stream))
    assert [tuple(unescaped(c) for c in row) for row in read[1:]] == rows


def test_our_own_reader_reads_a_sheet(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write_sheet(path, ["a", "b"], [["=1", "nan"], ["x\ny", "ü;,"]])
    rows = [r.values for r in read_delimited(InputFile(path, "s", 9999), delimiter=None, wanted=())]
    assert [{k: unescaped(v) for k, v in row.items()} for row in rows] == [
        {"a": "=1", "b": "nan"},
        {"a": "x\ny", "b": "ü;,"},
    ]
