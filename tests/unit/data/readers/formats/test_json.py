"""JSON Lines and JSON arrays: one row in memory at a time, broken rows named by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.readers.refusals import fixes
from tunery.core.errors import ConfigError
from tunery.data.readers.formats import json as jsonrows
from tunery.data.readers.formats.json import read_json_array, read_jsonl
from tunery.store.urls import InputFile

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.lists(st.dictionaries(st.text("abcxyz", max_size=5), VALUES, max_size=4), min_size=1, max_size=6)


def write(folder: Path, text: str) -> Path:
    path = folder / "a.json"
    path.write_text(text, encoding="utf-8")
    return path


@given(rows=OBJECTS, chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_an_array_is_read_as_the_json_module_reads_it_wherever_chunks_end(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], chunk: int, indent: int | None
) -> None:
    path = write(tmp_path_factory.mktemp("t"), json.dumps(rows, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonrows, "_CHUNK_BYTES", chunk)
        found = list(read_json_array(InputFile(path, "a.json", 10_000)))
    assert [r.values for r in found] == rows
    assert [r.number for r in found] == list(range(1, len(rows) + 1))


@given(rows=OBJECTS)
def test_lines_are_read_as_the_json_module_reads_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    text = "\n\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    path = write(tmp_path_factory.mktemp("t"), text)
    assert [r.values for r in read_jsonl(InputFile(path, "a.json", 10_000))] == rows


def test_broken_lines_stop_no_other_and_are_named_by_row_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 1}\n\n{"a": \n[1]\n{"a": 1, "a": 2}\n')
    rows = list(read_jsonl(InputFile(path, "a.jsonl", 1000)))
    assert rows[0].values == {"a": 1}
    assert fixes(rows) == [
        (2, "not JSON: Expecting value at character 8 (line 3 of a.jsonl)"),
        (3, "a list, where an object {…} is expected (line 4 of a.jsonl)"),
        (4, "key 'a' is given twice in one object (line 5 of a.jsonl)"),
    ]


def test_nan_is_no_value(tmp_path: Path) -> None:
    (row,) = read_jsonl(InputFile(write(tmp_path, '{"a": NaN, "b": "x"}'), "a", 1000))
    assert row.values == {"a": None, "b": "x"}


def test_a_json_file_of_lines_is_read_as_lines(tmp_path: Path) -> None:
    found = read_json_array(InputFile(write(tmp_path, '{"a": 1}\n{"a": 2}\n'), "a.json", 1000))
    assert [r.values["a"] for r in found] == [1, 2]


@given(rows=OBJECTS, chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_an_object_around_a_list_of_rows_is_read_as_the_list(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], chunk: int, indent: int | None
) -> None:
    whole = {"version": 1.5, "tags": ["x", [1]], "about": {"rows": len(rows)}, "data": rows, "end": "]}"}
    path = write(tmp_path_factory.mktemp("t"), json.dumps(whole, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonrows, "_CHUNK_BYTES", chunk)
        found = list(read_json_array(InputFile(path, "a.json", 10_000)))
    assert [r.values for r in found] == rows


def test_an_object_longer_than_a_row_may_be_is_read_by_its_list(tmp_path: Path) -> None:
    rows = [{"a": "x" * 100} for _ in range(1000)]
    path = write(tmp_path, json.dumps({"version": "1", "data": rows}))
    assert [r.values for r in read_json_array(InputFile(path, "a.json", 2000))] == rows


def test_one_row_over_several_lines_is_a_row(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}]}
    (found,) = read_json_array(InputFile(write(tmp_path, json.dumps(row, indent=2)), "a.json", 1000))
    assert found.values == row


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": [{"x": 1}], "b": [{"x": 1}]}', "two lists of objects, 'a' and 'b'"),
        ('{"data": [{"x": 1}, {"x": ', "not JSON"),
        ('{"data": [{"x": 1}]', "not JSON|never closed"),
        ('[{"x": 1}] trailing', "something follows the end of the list"),
    ],
)
def test_broken_objects_around_lists_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        list(read_json_array(InputFile(write(tmp_path, text), "a.json", 1000)))


def test_an_object_that_something_follows_is_a_broken_line(tmp_path: Path) -> None:
    path = write(tmp_path, '{"data": [{"x": 1}]} trailing')
    ((number, fix),) = fixes(read_json_array(InputFile(path, "a.json", 1000)))
    assert number == 1
    assert fix.startswith("not JSON: Extra data at character 22")


def test_keys_given_twice_are_found_however_they_are_written(tmp_path: Path) -> None:
    twice = [
        '{"a": 1, "a": 2}',
        '{"a":1,"a" :2}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": [{"b": 1, "b": 2}]}',
        '{"a": [[{"b": 1, "b": 2}]]}',
        '{"a": "x\\": y", "b": {"c": {"d": 1, "d": 2}}}',
    ]
    for text in twice:
        ((_, fix),) = fixes(read_jsonl(InputFile(write(tmp_path, text), "a.jsonl", 1000)))
        assert "given twice" in fix


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"text"', "must be a list of objects"),
        ('[{"a": 1} {"a": 2}]', "row 1 is not followed by"),
        ('[{"a": 1}, {"a": ', "row 2 is not JSON"),
        ('[{"a": 1}', "never closed"),
        ('[{"a": x}]' + " " * 100_000, "row 1 is not JSON: Expecting value"),
        ('[{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]", "nested too deeply"),
    ],
)
def test_broken_arrays_are_refused_by_row(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        list(read_json_array(InputFile(write(tmp_path, text), "a.json", 1_000_000)))


@pytest.mark.parametrize(
    ("element", "fix"),
    [("5", "a number, where an object {…} is expected"), ('{"a": 1, "a": 2}', "key 'a' is given twice")],
)
def test_a_broken_element_stops_no_other(tmp_path: Path, element: str, fix: str) -> None:
    path = write(tmp_path, f'[{{"a": 1}}, {element}, {{"a": 2}}]')
    rows = list(read_json_array(InputFile(path, "a.json", 1000)))
    assert [r.number for r in rows] == [1, 2, 3]
    ((number, found),) = fixes(rows)
    assert number == 2
    assert found.startswith(fix)
    assert found.endswith("(row 2 of a.json)")


def test_a_row_of_fifty_megabytes_is_refused_within_bounded_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "a.json"
    with path.open("w") as stream:
        stream.write('[{"a": "')
        for _ in range(50):
            stream.write("x" * 1_000_000)
        stream.write('"}]')
    for read in (read_json_array, read_jsonl):
        tracemalloc.start()
        try:
            ((_, reason),) = fixes(read(InputFile(path, "a.json", 1_048_576)))
        except ConfigError as error:
            reason = error.message
        assert "longer than 1,048,576 bytes" in reason
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16_000_000


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('[{"a": "é"}]'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8 near byte 8; it looks like WINDOWS-1252"):
        list(read_json_array(InputFile(path, "a.json", 1000)))
