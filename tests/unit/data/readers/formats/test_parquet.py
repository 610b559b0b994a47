"""Parquet in and out, with polars as the other side."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.readers.refusals import fixes
from tunery.core.errors import ConfigError
from tunery.data.readers.formats.parquet import read_arrow, read_parquet
from tunery.store.dataset_files import write_parquet
from tunery.store.urls import InputFile


def test_rows_written_by_polars_are_read_with_missing_values_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"text": ["a", None], "score": [1.5, float("nan")], "tags": [["x"], []]})
    frame.write_parquet(path)
    rows = list(read_parquet(InputFile(path, "a.parquet", 1000)))
    assert [r.number for r in rows] == [1, 2]
    assert [dict(r.values) for r in rows] == [
        {"text": "a", "score": 1.5, "tags": ["x"]},
        {"text": None, "score": None, "tags": []},
    ]


def test_what_is_written_polars_reads_also_when_there_are_no_rows(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])
    for rows in ([{"id": 1, "text": None}, {"id": 2, "text": "b"}], []):
        write_parquet(rows, tmp_path / "b.parquet", schema)
        frame = pl.read_parquet(tmp_path / "b.parquet")
        assert frame.to_dicts() == rows
        assert frame.schema == {"id": pl.Int64, "text": pl.String}


def test_a_file_that_is_not_parquet_and_a_huge_row_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"text,label\n")
    with pytest.raises(ConfigError, match="not a readable Parquet file"):
        list(read_parquet(InputFile(path, "a.parquet", 1000)))
    pl.DataFrame({"text": ["short", "x" * 2000]}).write_parquet(path)
    ((number, fix),) = fixes(read_parquet(InputFile(path, "a.parquet", 1000)))
    assert number == 2
    assert fix.startswith("longer than 1,000 bytes")


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="column named twice: 'text'"):
        list(read_parquet(InputFile(tmp_path / "a.parquet", "a.parquet", 1000)))


@pytest.mark.parametrize("written", ["names", "damaged", "none"])
def test_classes_that_datasets_wrote_as_numbers_are_read_by_name(tmp_path: Path, written: str) -> None:
    features = {"label": {"names": ["card", "refund"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    metadata = {"names": json.dumps({"info": {"features": features}}), "damaged": "{", "none": "{}"}[written]
    table = pa.table({"text": ["a", "b", "c", "d"], "label": [0, 1, -1, 7]})
    table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:
        stream.write_table(table)
    expected = ["card", "refund", None, 7] if written == "names" else [0, 1, -1, 7]
    for read, name in ((read_parquet, "a.parquet"), (read_arrow, "a.arrow")):
        rows = read(InputFile(tmp_path / name, name, 1000))
        assert [r.values["label"] for r in rows] == expected
