"""Where rows lie: folders, splits, saved datasets, patterns and stores behind URLs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunery.core.errors import ConfigError
from tunery.core.ids import sha256_file
from tunery.data.config import DataConfig, SourceConfig
from tunery.data.readers.reading import iterate
from tunery.data.readers.source import expand_sources, locate
from tunery.data.rows.row import RawRow

LINE = '{{"input": "{0}", "output": "b"}}\n'


def lines(*texts: str) -> str:
    return "".join(LINE.format(t) for t in texts)


def read(path: str, base: Path = Path(), **more: object) -> list[RawRow]:
    return list(iterate(locate(SourceConfig.model_validate({"path": path, **more}), base), ()))


def texts(path: str, base: Path = Path(), **more: object) -> list[str]:
    return [r.values["input"] for r in read(path, base, **more)]


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A store that lies in memory, emptied afterwards."""
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Parquet shards of two splits, as a dataset repository has them."""
    folder = tmp_path / "rows" / "data"
    folder.mkdir(parents=True)
    for name, text in (
        ("train-00001-of-00002", "b"),
        ("train-00000-of-00002", "a"),
        ("test-00000-of-00001", "c"),
    ):
        pq.write_table(pa.table({"input": [text], "output": ["x"]}), folder / f"{name}.parquet")
    (tmp_path / "rows" / "README.md").write_text("about")
    (tmp_path / "rows" / ".cache").mkdir()
    (tmp_path / "rows" / ".cache" / "z.parquet").write_text("no parquet")
    return tmp_path


def test_a_folder_is_its_files_sorted_and_rows_are_numbered_through(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "1.jsonl").write_text(lines("c"))
    (folder / "a.jsonl").write_text(lines("a", "b"))
    (folder / "z.jsonl.gz").write_bytes(gzip.compress(lines("d").encode()))
    (folder / "empty.jsonl").write_text("")
    (folder / "notes.txt").write_text("not rows")
    found = read("rows", tmp_path)
    assert [(r.number, r.values["input"]) for r in found] == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_a_broken_row_of_a_folder_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text(lines("a"))
    (tmp_path / "rows" / "b.jsonl").write_text(lines("b") + "{broken\n")
    broken = read("rows", tmp_path)[2]
    assert "(line 2 of rows/b.jsonl)" in broken.values.error.flaws[0].fix  # type: ignore[attr-defined]


def test_a_folders_hash_is_of_its_rows_and_not_of_its_names(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}-a.jsonl").write_text(lines("a"))
        (tmp_path / name / f"{name}-b.jsonl").write_text(lines("b"))
    hashes = {locate(SourceConfig(path=n), tmp_path).sha256 for n in ("one", "two")}
    assert len(hashes) == 1
    (tmp_path / "two" / "two-b.jsonl").write_text(lines("c"))
    assert locate(SourceConfig(path="two"), tmp_path).sha256 not in hashes
    single = tmp_path / "one" / "one-a.jsonl"
    assert locate(SourceConfig(path=str(single)), Path()).sha256 == sha256_file(single)


def test_formats_are_not_mixed_unless_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text(lines("a"))
    (tmp_path / "rows" / "b.csv").write_text("input,output\nb,x\n")
    with pytest.raises(ConfigError, match="mixes csv, jsonl files"):
        read("rows", tmp_path)
    assert texts("rows", tmp_path, format="csv") == ["b"]


def test_shards_of_several_splits_are_chosen_by_name(shards: Path) -> None:
    assert texts("rows#train", shards) == ["a", "b"]
    assert texts("rows", shards, split="test") == ["c"]
    assert texts("rows/data/train-*.parquet", shards) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"several splits \(test, train\)") as caught:
        read("rows", shards)
    assert "rows#test" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match=r"no split 'dev' \(there is: test, train\)"):
        read("rows#dev", shards)


def test_a_folder_of_splits_becomes_one_source_for_each(shards: Path) -> None:
    (shards / "plain.jsonl").write_text(lines("z"))
    config = DataConfig(sources=(SourceConfig(path="rows", limit=7), SourceConfig(path="plain.jsonl")))
    expanded = expand_sources(config, shards)
    assert [(s.path, s.split, s.limit) for s in expanded.sources] == [
        ("rows#test", "test", 7),
        ("rows#train", "train", 7),
        ("plain.jsonl", "auto", None),
    ]
    assert [texts(s.path, shards, split=s.split) for s in expanded.sources[:2]] == [["c"], ["a", "b"]]


def test_what_datasets_saves_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    train = datasets.Dataset.from_dict({"input": [f"q{i}" for i in range(5)], "output": list("abcde")})
    test = datasets.Dataset.from_dict({"input": ["t"], "output": ["x"]})
    train.save_to_disk(str(tmp_path / "single"), num_shards=2)
    datasets.DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "both"))
    expected = [dict(r) for r in datasets.load_from_disk(str(tmp_path / "single"))]
    assert [r.values for r in read("single", tmp_path)] == expected
    assert texts("both#train", tmp_path) == [r["input"] for r in expected]
    assert texts("both", tmp_path, split="test") == ["t"]
    with pytest.raises(ConfigError, match=r"several splits \(train, test\)"):
        read("both", tmp_path)
    config = DataConfig(sources=(SourceConfig(path="both"),))
    assert [s.path for s in expand_sources(config, tmp_path).sources] == ["both#train", "both#test"]
    train.filter(lambda r: r["input"] != "q0").save_to_disk(str(tmp_path / "filtered"))
    assert texts("filtered", tmp_path) == ["q1", "q2", "q3", "q4"]


def test_a_split_of_unknown_use_must_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "unsupervised"]}')
    with pytest.raises(ConfigError, match="'unsupervised'"):
        expand_sources(DataConfig(sources=(SourceConfig(path="both"),)), tmp_path)


def test_a_pattern_that_matches_nothing_or_walks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file matches"):
        read("x-*.jsonl", tmp_path)
    with pytest.raises(ConfigError, match="in the file's name only"):
        read("*/a-?.jsonl", tmp_path)


# Behind URLs.


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.csv", "a.json", "a.parquet", "a.arrow", "a.jsonl.gz", "a.csv.zst"]
)
def test_every_format_is_read_from_a_store(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, name: str
) -> None:
    table = pa.table({"input": ["a", "b"], "output": ["x", "y"]})
    path = tmp_path / "local"
    if "parquet" in name:
        pq.write_table(table, path)
    elif "arrow" in name:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        text = {
            "csv": "input,output\na,x\nb,y\n",
            "json": json.dumps(table.to_pylist()),
            "jsonl": "".join(json.dumps(r) + "\n" for r in table.to_pylist()),
        }[name.split(".")[1]].encode()
        path.write_bytes(
            gzip.compress(text)
            if name.endswith("gz")
            else bytes(pa.compress(text, codec="zstd", asbytes=True))
            if name.endswith("zst")
            else text
        )
    memory.pipe(f"/bucket/{name}", path.read_bytes())
    source = locate(SourceConfig(path=f"memory://bucket/{name}"), tmp_path)
    assert [r.values for r in iterate(source, ())] == table.to_pylist()
    assert source.sha256 == sha256_file(path)


def test_folders_patterns_and_splits_are_found_in_a_store(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/bucket/rows/train-1.jsonl", lines("b").encode())
    memory.pipe("/bucket/rows/train-0.jsonl", lines("a").encode())
    memory.pipe("/bucket/rows/test-0.jsonl", lines("c").encode())
    assert texts("memory://bucket/rows#train") == ["a", "b"]
    assert texts("memory://bucket/rows/train-*.jsonl") == ["a", "b"]
    config = DataConfig(sources=(SourceConfig(path="memory://bucket/rows"),))
    assert [(s.path, s.split) for s in expand_sources(config, Path()).sources] == [
        ("memory://bucket/rows#test", "test"),
        ("memory://bucket/rows#train", "train"),
    ]
    memory.pipe("/bucket/rows/model.pkl", b"x")
    with pytest.raises(ConfigError, match="can run code"):
        read("memory://bucket/rows#train")


def test_a_file_url_is_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines("a"))
    assert texts(f"file://{tmp_path}/a.jsonl") == ["a"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://bucket/none.jsonl", "no such file"),
        ("memory://bucket/none-*.jsonl", "no file matches"),
        ("s4://bucket/a.jsonl", "s4:// is not read "),
        ("simplecache::memory://bucket/a.jsonl", "no such file"),
        ("memory://x::file:///etc/passwd", "chained URLs are not read"),
        ("reference://x.json", "reference:// is not read"),
        ("sftp://me:secret@host/a.jsonl", "sftp://host/a.jsonl: a password has no place"),
    ],
)
def test_urls_that_are_not_read_say_why(tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_store_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)  # another test may have loaded it before
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match="needs the package s3fs") as caught:
        read("s3://bucket/a.jsonl")
    assert caught.value.hint == "pip install s3fs"


def test_a_store_that_fails_while_reading_is_reported_and_named(
    memory: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFile

    memory.pipe("/bucket/a.jsonl", lines(*map(str, range(100))).encode())
    source = locate(SourceConfig(path="memory://bucket/a.jsonl"), Path())

    def broken(self: MemoryFile, size: int = -1) -> bytes:
        raise RuntimeError("connection reset")

    monkeypatch.setattr(MemoryFile, "read", broken)
    with pytest.raises(ConfigError, match=r"a\.jsonl: cannot be read: RuntimeError: connection reset"):
        list(iterate(source, ()))
