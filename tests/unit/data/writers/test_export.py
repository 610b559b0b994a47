"""Export: what is written opens in the libraries it is for, and gives the same rows when read again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures_cli import Tunery, home, tunery
from tests.plugins import add_plugin
from tunery.core.config import parse_settings
from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError, ConflictError
from tunery.core.example import Example
from tunery.core.splits import SPLITS
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig
from tunery.data.readers.training_file import check_training_file
from tunery.data.writers.export import Exported, export_dataset, writers
from tunery.store.dataset_files import read_examples
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

FORMATS = sorted(writers())
NASTY = [
    "=1+1 {}",
    "-{} £",
    "'{}",
    'a "quoted", {}; thing',
    "zwei\nZeilen {}",
    "emoji 🙂 {}",
    "@{}",
    "{} nan",
]


def build(workspace: Workspace, folder: Path, rows: list[dict[str, Any]], **settings: Any) -> DatasetVersion:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = parse_settings(
        DataConfig,
        {
            "sources": [{"path": "rows.jsonl", "license": "CC0-1.0"}],
            "clean": {"near_duplicates": "off", "mask_pii": False},
            "split": {"test": 5, "validation": 5},
            **settings,
        },
        where="data",
    )
    return build_dataset(config, workspace, name="rows", base_dir=folder)


def single(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"input": NASTY[i % len(NASTY)].format(i), "output": "nan" if i % 9 == 0 else f"=answer {i}"}
        for i in range(count)
    ]


def pairs(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"prompt": NASTY[i % len(NASTY)].format(i), "chosen": f"+better {i}", "rejected": f"worse\n{i}"}
        for i in range(count)
    ]


def chats(count: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "system", "content": f"Be {i}."},
                {"role": "user", "content": f"first {i}"},
                {"role": "assistant", "content": "skip this", "weight": 0},
                {"role": "user", "content": f"second {i}"},
                {"role": "assistant", "content": f"answer {i}"},
            ]
        }
        for i in range(count)
    ]


def export(workspace: Workspace, version: DatasetVersion, out: Path, **more: Any) -> Exported:
    return export_dataset(version, workspace.artifacts.path("datasets", version.id), out, **more)


def rows_of(workspace: Workspace, version: DatasetVersion) -> dict[str, list[Any]]:
    folder = workspace.artifacts.path("datasets", version.id)

    def content(e: Example) -> Any:
        return e.id, e.messages, e.rejected, e.label

    return {s: sorted(map(content, read_examples(folder, s)), key=lambda c: c[0]) for s in SPLITS}


def built_again(workspace: Workspace, written: Exported) -> DatasetVersion:
    config = parse_settings(DataConfig, yaml.safe_load(written.recipe)["data"], where="data")
    return build_dataset(config, workspace, name="again", base_dir=Path("/"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("system_prompt", [None, "Answer: briefly."])
def test_single_turns_come_back_the_same(
    workspace: Workspace, tmp_path: Path, form: str, system_prompt: str | None
) -> None:
    version = build(workspace, tmp_path, single(), system_prompt=system_prompt)
    written = export(workspace, version, tmp_path / "out", form=form)
    assert written.rows == {"train": 30, "validation": 5, "test": 5}
    again = built_again(workspace, written)
    assert rows_of(workspace, again) == rows_of(workspace, version)
    assert yaml.safe_load(written.recipe)["data"]["sources"][0]["license"] == "CC0-1.0"
    assert "&id" not in written.recipe, "an anchor is nothing to edit"


@pytest.mark.parametrize("form", FORMATS)
def test_preference_pairs_come_back_the_same(workspace: Workspace, tmp_path: Path, form: str) -> None:
    version = build(workspace, tmp_path, pairs())
    again = built_again(workspace, export(workspace, version, tmp_path / "out", form=form))
    assert again.preference
    assert rows_of(workspace, again) == rows_of(workspace, version)


@pytest.mark.parametrize("form", ["openai", "hf"])
def test_long_conversations_with_untrained_turns_come_back_the_same(
    workspace: Workspace, tmp_path: Path, form: str
) -> None:
    version = build(workspace, tmp_path, chats())
    again = built_again(workspace, export(workspace, version, tmp_path / "out", form=form))
    assert rows_of(workspace, again) == rows_of(workspace, version)


def calls(count: int = 40) -> list[dict[str, Any]]:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    return [
        {
            "messages": [
                {"role": "user", "content": f"where is parcel {i}?"},
                {
                    "role": "assistant",
                    "content": None if i % 2 else "Let me see.",
                    "tool_calls": [
                        {
                            "id": f"c{i}",
                            "type": "function",
                            "function": {
                                "name": "look_up",
                                "arguments": json.dumps({"parcel": i, "é": ["ü"]}),
                            },
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": f"c{i}", "content": f"depot {i}"},
                {"role": "assistant", "content": f"It is in depot {i}."},
            ],
            "tools": tools,
        }
        for i in range(count)
    ]


@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
def test_calls_of_functions_come_back_the_same_and_as_openai_writes_them(
    workspace: Workspace, tmp_path: Path, system_prompt: str | None
) -> None:
    version = build(workspace, tmp_path, calls(), system_prompt=system_prompt)
    written = export(workspace, version, tmp_path / "out", form="openai")
    assert rows_of(workspace, built_again(workspace, written)) == rows_of(workspace, version)
    rows = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert all(row["tools"] == calls(1)[0]["tools"] for row in rows)
    roles = ["system"] * (system_prompt is not None) + ["user", "assistant", "tool", "assistant"]
    assert [[m["role"] for m in row["messages"]] for row in rows] == [roles] * len(rows)
    (call,) = rows[0]["messages"][-3]["tool_calls"]
    assert rows[0]["messages"][-2]["tool_call_id"] == call["id"]
    assert json.loads(call["function"]["arguments"]).keys() == {"parcel", "é"}
    assert check_training_file(tmp_path / "out" / "train.jsonl").problems == []


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "csv"])
def test_rows_that_a_format_would_change_are_refused(workspace: Workspace, tmp_path: Path, form: str) -> None:
    version = build(workspace, tmp_path, chats())
    with pytest.raises(ConfigError, match="kept out of training"):
        export(workspace, version, tmp_path / "out", form=form)
    assert [p.name for p in tmp_path.iterdir() if "out" in p.name] == []


def learnt_chats() -> list[dict[str, Any]]:
    return [{"messages": [t for t in row["messages"] if "weight" not in t][1:]} for row in chats()]


def test_a_format_for_one_turn_refuses_more(workspace: Workspace, tmp_path: Path) -> None:
    version = build(workspace, tmp_path, learnt_chats())
    with pytest.raises(ConfigError, match="2 turns before the answer"):
        export(workspace, version, tmp_path / "out", form="csv")
    with pytest.raises(ConfigError, match="not pairs of a question and an answer"):
        export(workspace, version, tmp_path / "out", form="alpaca")
    own = [{"messages": [row["messages"][0], *row["messages"][3:]]} for row in chats()]
    version = build(workspace, tmp_path, own)
    with pytest.raises(ConfigError, match="a system turn of its own"):
        export(workspace, version, tmp_path / "out", form="csv")


@pytest.mark.parametrize("system_prompt", [None, "Answer: briefly."])
def test_alpaca_takes_system_turns_and_earlier_pairs(
    workspace: Workspace, tmp_path: Path, system_prompt: str | None
) -> None:
    rows = [
        {"messages": [{k: v for k, v in t.items() if k != "weight"} for t in r["messages"]]} for r in chats()
    ]
    for row in rows[::2]:
        del row["messages"][0]
    version = build(workspace, tmp_path, rows, system_prompt=system_prompt)
    written = export(workspace, version, tmp_path / "out", form="alpaca")
    assert rows_of(workspace, built_again(workspace, written)) == rows_of(workspace, version)


def test_an_openai_file_passes_the_check_of_uploads(workspace: Workspace, tmp_path: Path) -> None:
    for rows, shape in ((single(), "chat"), (pairs(), "preference"), (chats(), "chat")):
        version = build(workspace, tmp_path, rows)
        out = tmp_path / f"{version.id}.jsonl"
        export(workspace, version, out, form="openai", split="train")
        check = check_training_file(out)
        assert (check.shape, check.rows, check.problems) == (shape, 30, [])


def test_datasets_opens_the_folder(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    version = build(workspace, tmp_path, single())
    export(workspace, version, tmp_path / "out", form="hf")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 30, "validation": 5, "test": 5}
    first = read_examples(workspace.artifacts.path("datasets", version.id), "train")[0]
    assert [m["content"] for m in loaded["train"][0]["messages"]] == [m.content for m in first.messages]
    assert loaded["train"][0]["id"] == first.id
    pair = build(workspace, tmp_path, pairs())
    export(workspace, pair, tmp_path / "pairs", form="hf")
    loaded = datasets.load_dataset(str(tmp_path / "pairs"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded["test"].column_names) >= {"prompt", "chosen", "rejected"}


def test_one_split_is_one_file_of_that_split_only(workspace: Workspace, tmp_path: Path) -> None:
    version = build(workspace, tmp_path, single())
    written = export(workspace, version, tmp_path / "deep" / "test.json", form="alpaca", split="test")
    rows = json.loads((tmp_path / "deep" / "test.json").read_text(encoding="utf-8"))
    test = read_examples(workspace.artifacts.path("datasets", version.id), "test")
    assert [r["output"] for r in rows] == [e.reference for e in test]
    assert written.files == {"test": (tmp_path / "deep" / "test.json",)}


def test_no_csv_cell_begins_like_a_formula(workspace: Workspace, tmp_path: Path) -> None:
    version = build(workspace, tmp_path, single())
    export(workspace, version, tmp_path / "t.csv", form="csv", split="train")
    import csv

    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert any(cell.startswith("'=") for cell in cells)
    assert not any(cell[:1] in "=+-@\t\r\n" for cell in cells if cell)


def test_what_is_there_is_kept_without_replace(workspace: Workspace, tmp_path: Path) -> None:
    version = build(workspace, tmp_path, single())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(ConflictError, match="there already"):
        export(workspace, version, tmp_path / "out", form="openai")
    assert (tmp_path / "out" / "mine.txt").is_file()
    with pytest.raises(ConflictError, match=r"mine\.txt; they would be lost"):
        export(workspace, version, tmp_path / "out", form="openai", replace=True)
    (tmp_path / "out" / "mine.txt").unlink()
    export(workspace, version, tmp_path / "out", form="openai", replace=True)
    export(workspace, version, tmp_path / "out", form="hf", replace=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["README.md", "data"]
    export(workspace, version, tmp_path / "out", form="openai", replace=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]


def test_the_folder_one_stands_in_is_not_replaced(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = build(workspace, tmp_path, single())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConflictError, match="working folder"):
        export(workspace, version, Path(), form="csv", replace=True)


def test_a_split_without_rows_and_an_unknown_format_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    version = build(workspace, tmp_path, single(), split={"test": 5, "validation": 0})
    with pytest.raises(ConfigError, match=r"validation split of .* has no rows"):
        export(workspace, version, tmp_path / "out", form="csv", split="validation")
    with pytest.raises(ConfigError, match="no export format"):
        export(workspace, version, tmp_path / "out", form="xml")


TWO_COLUMNS = """
    from tunery.data.writers.writer import Writer, other_than_one_turn

    def write(examples, version, path):
        rows = [f"{e.prompt[-1].content}\\t{e.reference}" for e in examples]
        path.write_text("\\n".join(["question\\tanswer", *rows]), encoding="utf-8")

    WRITER = Writer(
        title="two columns",
        ending="tab",
        write=write,
        misfit=other_than_one_turn,
        source=lambda version: {"columns": {"input": "question", "output": "answer"}},
    )
"""


def test_one_more_format_is_one_more_file(
    workspace: Workspace, tunery: Tunery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_plugin(monkeypatch, tmp_path / "more", "tunery.data.writers", name="columns", source=TWO_COLUMNS)
    plain = [{"input": f"question {i}", "output": f"answer {i}"} for i in range(40)]
    version = build(workspace, tmp_path, plain)
    written = export(workspace, version, tmp_path / "out", form="columns")
    assert rows_of(workspace, built_again(workspace, written)) == rows_of(workspace, version)
    export(workspace, version, tmp_path / "out", form="columns", replace=True)
    with pytest.raises(ConfigError, match=r"columns \(two columns\)") as refused:
        export(workspace, build(workspace, tmp_path, chats()), tmp_path / "no", form="columns")
    assert refused.value.hint == "--format hf or openai takes these rows"
    # The command line reads the names when it is loaded.
    monkeypatch.delitem(sys.modules, "tunery.cli.data", raising=False)
    out = tmp_path / "train.tab"
    called = tunery("data", "export", version.id, "--format", "columns", "--split", "train", "--out", out)
    assert called.code == 0, called.err
    assert len(out.read_text(encoding="utf-8").splitlines()) == 31
    assert "columns" in tunery("data", "export", "--help").out
    assert tunery("data", "export", version.id, "--format", "xml", "--out", out).code == 2
