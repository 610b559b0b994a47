"""Files made to do harm, or damaged beyond use: each is read or refused in words, within bounded memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data.readers.refusals import fixes
from tunery.core.errors import ConfigError, TuneryError
from tunery.data.config import ColumnsConfig, SourceConfig
from tunery.data.conversations.parse import parse_row
from tunery.data.conversations.shapes import map_columns, wanted_columns
from tunery.data.readers.reading import iterate
from tunery.data.readers.source import locate
from tunery.data.readers.storage import compression as unpack
from tunery.data.rows.row import BadRow, RawRow, UnusableRow
from tunery.store.spreadsheet import escaped, unescaped

MAPPED = ColumnsConfig(input="text", output="label")


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def read(path: Path, columns: ColumnsConfig = MAPPED, **more: object) -> list[RawRow]:
    source = SourceConfig.model_validate({"path": path.name, "columns": columns, **more})
    return list(iterate(locate(source, path.parent), wanted_columns(columns)))


def refused(path: Path, says: str, **more: object) -> ConfigError:
    with pytest.raises(ConfigError, match=says) as caught:
        read(path, **more)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "a.arrow"])
def test_packed_files_cut_short_are_refused(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(GOOD[name])
    ending = ".gz" if pack is gzip.compress else ".zst"
    path = tmp_path / f"{name}{ending}"
    path.write_bytes(packed)
    assert len(read(path)) == ROWS
    path.write_bytes(packed[: len(packed) // 2])
    refused(path, "damaged or cut short")


@pytest.mark.parametrize(
    ("encoding", "says"),
    [("utf-16", "UTF-16"), ("utf-16-le", "is zero"), ("utf-32", "UTF-16|is zero"), ("latin-1", "not UTF-8")],
)
def test_other_encodings_are_named(tmp_path: Path, encoding: str, says: str) -> None:
    for name in ("a.csv", "a.jsonl", "a.json"):
        path = tmp_path / name
        path.write_bytes(GOOD[name].decode().replace("question", "Frage für").encode(encoding))
        refused(path, says)


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_a_zero_byte_far_inside_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = bytearray(GOOD[name])
    content[-20] = 0
    path.write_bytes(content)
    refused(path, "is zero|not JSON|Invalid control")


def test_a_line_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"q{i}", "label": "a"}).encode() for i in range(12)]
    lines[3] = '{"text": "café", "label": "a"}'.encode("cp1252")
    lines[5] = b'{"text": "x\x00", "label": "a"}'
    lines[7] = lines[11] = b'{"text": "' + b"z" * 600_000 + b'", "label": "a"}'
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    rows = read(path, max_row_bytes=10_000)
    assert [r.number for r in rows] == list(range(1, 13))
    reasons = dict(fixes(rows))
    assert list(reasons) == [4, 6, 8, 12]
    assert "not UTF-8 at byte" in reasons[4]
    assert "is zero" in reasons[6]
    assert "longer than 10,000 bytes" in reasons[8] == reasons[12].replace("line 12", "line 8")


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_bomb_of_short_lines_is_stopped_by_its_ratio(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "FREE_BYTES", 1 << 20)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(pack(b'{"text": "a", "label": "b"}\n' * 400_000))
    assert path.stat().st_size < 60_000
    refused(path, "no file of rows does")


def test_the_whole_of_what_is_unpacked_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + os.urandom(300_000).hex().encode()))
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", 100_000)
    refused(path, "unpacks to over")


def test_a_packed_parquet_bomb_fills_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "FREE_BYTES", 1 << 20)
    path = tmp_path / "a.parquet.zst"
    path.write_bytes(zstd(b"PAR1" + bytes(50_000_000)))
    refused(path, "no file of rows does")


def test_a_zip_is_refused_and_not_unpacked(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.csv"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"0" * 10_000_000)
    refused(path, "zip archive")


def test_cells_that_spreadsheets_would_run_are_read_unchanged_and_written_harmless(tmp_path: Path) -> None:
    cells = ['=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "-12.5", "+49", "a=b"]
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["text", "label"], *([c, "x"] for c in cells)])
    assert [r.values["text"] for r in read(path)] == cells
    written = [escaped(c) for c in cells]
    assert written == [c if c in (" =1", "a=b") else f"'{c}" for c in cells]
    assert [unescaped(w) for w in written] == cells
    with path.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["text", "label"], *([w, "x"] for w in written)])
    assert [r.values["text"] for r in read(path)] == written
    assert [r.values["text"] for r in read(path, export="spreadsheet")] == cells


def test_rows_of_ten_thousand_columns(tmp_path: Path) -> None:
    names = ["text", "label", *(f"c{i}" for i in range(10_000))]
    path = tmp_path / "a.csv"
    path.write_text(",".join(names) + "\n" + ",".join("x" for _ in names) + "\nshort,row\n")
    rows = read(path)
    assert len(rows[0].values) == 10_002
    assert fixes(rows) == [
        (2, "has 2 cells, the header 10002; quote cells that contain the delimiter (line 3 of a.csv)")
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(dict.fromkeys(names, "x")) + "\n")
    assert len(read(path)[0].values) == 10_002


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [101, 1000, 100_000])
def test_deep_nesting_breaks_its_row_only(tmp_path: Path, opening: str, depth: int) -> None:
    closing = "]" if opening == "[" else "}"
    deep = '{"text": ' + opening * depth + "1" + closing * depth + ', "label": "x"}'
    fine = '{"text": "a", "label": "b"}'
    path = tmp_path / "a.jsonl"
    path.write_text(f"{fine}\n{deep}\n{fine}\n")
    rows = read(path)
    assert len(rows) == 3
    assert fixes(rows) == [(2, "nested too deeply, over 100 levels (line 2 of a.jsonl)")]
    path = tmp_path / "a.json"
    path.write_text(f"[{fine},{deep},{fine}]")
    if depth < 500:
        assert [n for n, _ in fixes(read(path))] == [2]
    else:
        refused(path, "nested too deeply")


def test_a_hundred_levels_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ' + "[" * 99 + "]" * 99 + "}\n")
    assert fixes(read(path)) == []


def test_unbalanced_quotes_and_a_huge_number_are_refused_with_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"open,b\nc,d\n')
    refused(path, "opened and never closed")
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n{"text": "a, "label": "b"}\n{"n": ' + "9" * 5000 + "}\n")
    assert [n for n, _ in fixes(read(path))] == [2, 3]


def test_a_broken_line_does_not_stop_the_others_and_raises_where_rows_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"broken\n[1]\n' + '{"text": "a", "label": "b"}\n' * 3)
    rows = read(path)
    assert sorted(r.number for r in rows) == [1, 2, 3, 4, 5]
    assert rows[0].number == 3, "the first row tells how the file is read, so it must be one that is whole"
    source = SourceConfig(path="a.jsonl", columns=MAPPED)
    mapped = map_columns(source, rows[0].values)
    for row in rows:
        if row.number > 2:
            assert parse_row(row, mapped, source).turns[0].content == "a"
        else:
            with pytest.raises(BadRow):
                parse_row(row, mapped, source)


def test_a_file_without_one_whole_row_is_refused_with_the_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{\n" * 30)
    error = refused(path, "row 1: not JSON")
    assert "and 20 more" in str(error)


# Folders.


def test_a_pickle_in_a_folder_is_refused_and_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(GOOD["a.jsonl"])
    for name in ("b.pkl", "c.pt", "d.joblib"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    error = refused(folder, "3 problems")
    assert "can run code" in str(error)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "e.jsonl").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "e.jsonl", "pickle|is zero|not UTF-8")
    assert not (tmp_path / "ran").exists()


def test_link_loops_end_and_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "a.jsonl").write_bytes(GOOD["a.jsonl"])
    (folder / "deeper" / "loop").symlink_to(folder)
    assert len(read(folder)) == ROWS
    (folder / "b.jsonl").symlink_to(folder / "b.jsonl")
    refused(folder, "leads nowhere")
    (folder / "b.jsonl").unlink()
    (tmp_path / "secret.jsonl").write_bytes(GOOD["a.jsonl"])
    (folder / "b.jsonl").symlink_to("../secret.jsonl")
    refused(folder, "outside the folder")


@pytest.mark.parametrize("file", ["../secret.arrow", "/etc/passwd", "a/../../secret.arrow", "", ".hidden", 5])
def test_a_saved_dataset_cannot_name_files_outside_its_folder(tmp_path: Path, file: object) -> None:
    (tmp_path / "secret.arrow").write_bytes(GOOD["a.arrow"])
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": file}]}))
    refused(folder, "not a plain file name")


def test_a_pipe_is_no_file_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    refused(tmp_path / "a.jsonl", "neither a file nor a folder")
    folder = tmp_path / "rows"
    folder.mkdir()
    os.mkfifo(folder / "a.jsonl")
    refused(folder, "no file of rows")


# Binary tables.


def test_parquet_with_a_broken_footer_and_arrow_with_a_broken_body(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow"):
        good = GOOD[name]
        path = tmp_path / name
        path.write_bytes(good[:-30] + bytes(30))
        refused(path, "not a readable")
        path.write_bytes(good[: len(good) // 2])
        refused(path, "not a readable")
        path.write_bytes(good[:4])
        refused(path, "not a readable")


def test_arrow_offsets_that_point_outside_are_found_before_they_are_used(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little", signed=True) for n in (0, 2_000_000_000, 4)))
    column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"abcd")])
    table = pa.RecordBatch.from_arrays([column, pa.array(["x", "y"])], names=["text", "label"])
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    refused(path, "not a readable Arrow file")


def test_strings_that_are_not_utf8_in_a_table_are_refused(tmp_path: Path) -> None:
    column = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe")]
    )
    table = pa.Table.from_arrays([column, pa.array(["x"])], names=["text", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "not a readable Parquet file")


# Memory, measured where nothing else is: in a process of its own.

MEASURE = """
import resource, sys
from pathlib import Path
from tunery.core.errors import ConfigError
from tunery.data.config import SourceConfig
from tunery.data.readers.reading import iterate
from tunery.data.readers.source import locate
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = 0
try:
    for _ in iterate(locate(SourceConfig(path=sys.argv[1]), Path("/")), ()):
        rows += 1
except ConfigError as error:
    print(error.message[:200])
print("grew", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "rows", rows)
"""


def grown_kib(path: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return int(done.stdout.split("grew ")[1].split()[0]), done.stdout


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "jsonl.gz", "json.zst"])
def test_a_row_of_fifty_megabytes_costs_little_memory(tmp_path: Path, ending: str) -> None:
    row = b'{"text": "' + b"x" * 50_000_000 + b'", "label": "y"}'
    content = {"csv": b"text,label\n" + b"x" * 50_000_000 + b",y\n", "json": b"[" + row + b"]"}.get(
        ending.split(".")[0], row
    )
    packed = {"gz": gzip.compress, "zst": zstd}.get(ending.rpartition(".")[2], bytes)(content)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(packed)
    kib, output = grown_kib(path)
    assert "longer than 1,048,576 bytes" in output
    assert kib < 40_000, output


def test_a_bomb_costs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=6) as stream:
        for _ in range(80):
            stream.write((b'{"text": "' + b"a" * 1000 + b'", "label": "b"}\n') * 1000)
    kib, output = grown_kib(path)
    assert "no file of rows does" in output
    assert kib < 40_000, output


def test_a_long_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 2000] * 15_000, "label": [str(i) for i in range(15_000)]})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, compression="none")
    with (tmp_path / "a.json").open("w") as stream:
        stream.write('{"about": "rows", "data": [')
        stream.write(",".join('{"text": "%s"}' % ("x" * 2000) for _ in range(15_000)))
        stream.write("]}")
    for name in ("a.parquet", "a.json"):
        kib, output = grown_kib(tmp_path / name)
        assert "rows 15000" in output
        assert kib < 60_000, output


# Whatever the bytes are.

ROWS = 12


def _tables() -> dict[str, bytes]:
    columns = {"text": [f"question {i}" for i in range(ROWS)], "label": ["a"] * ROWS, "n": list(range(ROWS))}
    table = pa.table(columns)
    tables = {}
    for name, compression in (("a.parquet", "zstd"), ("b.parquet", "none")):
        parquet = io.BytesIO()
        pq.write_table(table, parquet, compression=compression)
        tables[name] = parquet.getvalue()
    for name, new, options in (
        ("a.arrow", pa.ipc.new_file, None),
        ("b.arrow", pa.ipc.new_stream, None),
        ("c.arrow", pa.ipc.new_stream, pa.ipc.IpcWriteOptions(compression="zstd")),
    ):
        arrow = io.BytesIO()
        with new(arrow, table.schema, options=options) as writer:
            writer.write_table(table)
        tables[name] = arrow.getvalue()
    return tables


LINES = [json.dumps({"text": f"question {i}", "label": "a", "n": i}) for i in range(ROWS)]
GOOD = {
    "a.csv": b"text,label\n" + b"".join(b'"question, %d",a\n' % i for i in range(ROWS)),
    "a.jsonl": "\n".join(LINES).encode(),
    "a.json": ("[" + ", ".join(LINES) + "]").encode(),
    "b.json": ('{"version": 1, "data": [' + ", ".join(LINES) + "]}").encode(),
    **_tables(),
}
GOOD["a.jsonl.gz"] = gzip.compress(GOOD["a.jsonl"], mtime=0)
GOOD["a.csv.zst"] = zstd(GOOD["a.csv"])
QUIET = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=150,
)


def consume(path: Path) -> int:
    """Read a file to its end as a collector would; anything but rows or a TuneryError escapes."""
    source = SourceConfig(path=path.name, columns=MAPPED)
    mapped = None
    count = 0
    try:
        for row in iterate(locate(source, path.parent), wanted_columns(MAPPED)):
            mapped = mapped or map_columns(source, row.values)
            count += 1
            try:
                parse_row(row, mapped, source)
            except (BadRow, UnusableRow):
                continue
    except TuneryError as error:
        assert path.name in error.message  # noqa: PT017 - refused is right too, and must name the file
    return count


@pytest.mark.parametrize("name", sorted(GOOD))
def test_undamaged_files_are_read_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(GOOD[name])
    assert consume(tmp_path / name) == ROWS


@QUIET
@given(name=st.sampled_from(sorted(GOOD)), content=st.binary(max_size=300))
def test_random_bytes_are_read_or_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    consume(tmp_path / name)


@QUIET
@given(name=st.sampled_from(sorted(GOOD)), share=st.floats(0, 1))
def test_files_cut_anywhere_are_read_or_refused(tmp_path: Path, name: str, share: float) -> None:
    (tmp_path / name).write_bytes(GOOD[name][: int(len(GOOD[name]) * share)])
    consume(tmp_path / name)


@settings(QUIET, max_examples=600)
@given(
    name=st.sampled_from(sorted(GOOD)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4),
)
def test_files_with_flipped_bits_are_read_or_refused(
    tmp_path: Path, name: str, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(GOOD[name])
    for where, bit in flips:
        content[int(len(content) * where)] ^= 1 << bit
    (tmp_path / name).write_bytes(content)
    consume(tmp_path / name)


def test_arrow_that_unpacks_to_far_more_than_rows_would_is_refused_within_some_batches(
    tmp_path: Path,
) -> None:
    schema = pa.schema([("text", pa.large_string()), ("label", pa.string())])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    bomb = pa.table({"text": ["x" * 8_000_000], "label": ["a"]}, schema)
    for name, writer in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        path = tmp_path / f"{name}.arrow"
        with writer(str(path), schema, options=options) as stream:
            for _ in range(100):
                stream.write_table(bomb)
        kib, output = grown_kib(path)
        assert "no table of rows does" in output
        assert kib < 60_000, output


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_arrow_headers_are_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    table = pa.table({"text": ["a", "b"] * 50, "label": pa.array(["x", "y"] * 50).dictionary_encode()})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    content = bytearray(sink.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.arrow"
    path.write_bytes(content[: data.draw(st.integers(8, len(content)))])
    try:
        read(path)
    except ConfigError:
        return


def test_packed_files_in_a_folder_are_read_whatever_they_call_zstandard(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    line = json.dumps({"text": "a", "label": "b"}).encode() + b"\n"
    (folder / "a.jsonl").write_bytes(line)
    for ending in ("zst", "zstd"):
        (folder / f"{ending}.jsonl.{ending}").write_bytes(zstd(line))
    assert len(read(folder)) == 3
