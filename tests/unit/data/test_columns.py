"""Columns of every layout: each is read as its format says, refused by its name, or named in a warning."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tunery.core.config import parse_settings
from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError
from tunery.core.example import Example
from tunery.core.splits import SPLITS
from tunery.core.tool_text import describe, read_answer, read_functions
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig, SourceConfig
from tunery.data.read_file import read_file
from tunery.data.writers.export import export_dataset
from tunery.inspect.detectors import contradictions
from tunery.inspect.likeness import compare_prompts
from tunery.store.dataset_files import read_columns, read_dropped, read_examples
from tunery.store.workspace import Workspace

ANIMALS = [
    "otter",
    "heron",
    "badger",
    "newt",
    "lynx",
    "stork",
    "toad",
    "finch",
    "hare",
    "vole",
    "swan",
    "ibex",
]
ROWS = len(ANIMALS)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str, **flags: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **flags}


def asks(animal: str) -> str:
    return f"Where does the {animal} sleep?"


def says(animal: str) -> str:
    return f"The {animal} sleeps under {len(animal) * 7} {animal[::-1]} leaves."


LAYOUTS: dict[str, Any] = {
    "chat": lambda a: {"messages": [user(asks(a)), assistant(says(a))]},
    "sharegpt": lambda a: {
        "conversations": [{"from": "human", "value": asks(a)}, {"from": "gpt", "value": says(a)}]
    },
    "alpaca": lambda a: {"instruction": asks(a), "input": "", "output": says(a)},
    "completion": lambda a: {"prompt": asks(a), "completion": says(a)},
    "columns": lambda a: {"input": asks(a), "output": says(a)},
    "table": lambda a: {"text": asks(a), "label": says(a)},
    "trl": lambda a: {"prompt": [user(asks(a))], "completion": [assistant(says(a))]},
    "preference": lambda a: {"prompt": asks(a), "chosen": says(a), "rejected": f"No {a}."},
    "turns-preferred": lambda a: {
        "chosen": [user(asks(a)), assistant(says(a))],
        "rejected": [user(asks(a)), assistant(f"No {a}.")],
    },
}
MAPPED = {"table": {"input": "text", "output": "label"}}
FLAT = ("alpaca", "completion", "columns", "table", "preference")
"""Layouts whose values a cell of a table holds."""

TOOL = {"name": "sleep", "parameters": {"type": "object", "properties": {"where": {"type": "string"}}}}
COLUMNS: dict[str, Any] = {
    "system": lambda a: f"You watch the {a}.",
    "system_prompt": lambda a: f"You watch the {a}.",
    "history": lambda a: [[f"Is it a {a}?", f"It is a {a}."]],
    "history as text": lambda a: json.dumps([[f"Is it a {a}?", f"It is a {a}."]]),
    "history as turns": lambda a: [user(f"Is it a {a}?"), assistant(f"It is a {a}.")],
    "tools": lambda _: [{"type": "function", "function": TOOL}],
    "tools as text": lambda _: json.dumps([TOOL]),
    "functions": lambda _: [TOOL],
}
BEFORE: dict[str, Any] = {
    "system": lambda a: [("system", f"You watch the {a}.")],
    "history": lambda a: [("user", f"Is it a {a}?"), ("assistant", f"It is a {a}.")],
    "tools": lambda _: [("system", describe([TOOL]))],
}
"""What each column becomes before the question."""


def name_of(column: str) -> str:
    return column.split()[0]


def meaning_of(column: str) -> Any:
    return BEFORE[{"system_prompt": "system", "functions": "tools"}.get(name_of(column), name_of(column))]


def write(folder: Path, form: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"rows.{form}"
    if form == "csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, [*dict.fromkeys(k for r in rows for k in r)])
            writer.writeheader()
            cells = ({k: v if isinstance(v, str) else json.dumps(v) for k, v in r.items()} for r in rows)
            writer.writerows(cells)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif form == "jsonl.gz":
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    else:
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path.name


def config(name: str, *, strict: bool = False, **source: Any) -> DataConfig:
    settings = {
        "sources": [{"path": name, **source}],
        "split": {"test": 0, "validation": 0},
        "clean": {"near_duplicates": "off"},
        "labels": "open",
        "strict": strict,
    }
    return parse_settings(DataConfig, settings, where="data")


def build(workspace: Workspace, folder: Path, name: str, **source: Any) -> DatasetVersion:
    return build_dataset(config(name, **source), workspace, name="t", base_dir=folder)


def examples(workspace: Workspace, version: DatasetVersion) -> list[Example]:
    return read_examples(workspace.artifacts.path("datasets", version.id), "train")


def read(folder: Path, name: str, **source: Any) -> list[Example]:
    settings = config(name, **source)
    return read_file(folder / name, settings.sources[0], settings)


def card(workspace: Workspace, version: DatasetVersion) -> str:
    return (workspace.artifacts.path("datasets", version.id) / "card.md").read_text()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("column", COLUMNS)
def test_columns_of_the_prompt_come_before_the_question_in_every_layout(
    tmp_path: Path, layout: str, column: str
) -> None:
    # The first row lacks the column: what the file looks like at its head decides nothing.
    rows = [LAYOUTS[layout](ANIMALS[0])]
    rows += [LAYOUTS[layout](a) | {name_of(column): COLUMNS[column](a)} for a in ANIMALS[1:]]
    found = read(tmp_path, write(tmp_path, "jsonl", rows), columns=MAPPED.get(layout, {}))
    assert len(found) == ROWS
    for example, animal in zip(found, ANIMALS, strict=True):
        before = meaning_of(column)(animal) if animal != ANIMALS[0] else []
        turns = [*before, ("user", asks(animal)), ("assistant", says(animal))]
        assert [(m.role, m.content) for m in example.messages] == turns


@pytest.mark.parametrize("column", ["system", "history", "tools"])
def test_a_column_beside_mapped_ones_that_is_taken_by_its_name_is_told(
    workspace: Workspace, tmp_path: Path, column: str
) -> None:
    for layout in ("table", "columns"):
        rows = [LAYOUTS[layout](a) | {column: COLUMNS[column](a)} for a in ANIMALS]
        version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows), columns=MAPPED.get(layout, {}))
        guessed = [w for w in version.warnings if f"column {column!r} was read as the" in w]
        assert len(guessed) == (layout == "table")


@pytest.mark.parametrize("form", ["csv", "parquet", "json", "jsonl.gz"])
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("layout", ["alpaca", "table"])
def test_columns_of_the_prompt_are_read_from_every_kind_of_file(
    tmp_path: Path, form: str, column: str, layout: str
) -> None:
    rows = [LAYOUTS[layout](a) | {name_of(column): COLUMNS[column](a)} for a in ANIMALS]
    found = read(tmp_path, write(tmp_path, form, rows), columns=MAPPED.get(layout, {}))
    for example, animal in zip(found, ANIMALS, strict=True):
        before = meaning_of(column)(animal)
        assert [(m.role, m.content) for m in example.messages[: len(before)]] == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_column_that_nothing_reads_is_named_once_with_its_rows(
    workspace: Workspace, tmp_path: Path, layout: str
) -> None:
    rows = [
        LAYOUTS[layout](a) | {"context": f"The {a}.", "id": i, "seen": None} for i, a in enumerate(ANIMALS)
    ]
    rows[0]["context"] = ""
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows), columns=MAPPED.get(layout, {}))
    (warning,) = (w for w in version.warnings if "nothing reads" in w)
    assert "'id' (12 rows), 'context' (11 rows)" in warning
    assert "'seen'" not in warning
    assert "columns.metadata" in warning
    assert "nothing reads" in card(workspace, version)
    declared = MAPPED.get(layout, {}) | {"metadata": ["context", "id"]}
    quiet = build(workspace, tmp_path, "rows.jsonl", columns=declared)
    assert not [w for w in quiet.warnings if "nothing reads" in w]


def test_cells_under_no_name_are_named_by_their_place(workspace: Workspace, tmp_path: Path) -> None:
    lines = [f'"{asks(a)}","{says(a)}",{"seen" if i == 3 else ""},' for i, a in enumerate(ANIMALS)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,,", *lines]))
    version = build(workspace, tmp_path, "rows.csv", columns=MAPPED["table"])
    (warning,) = version.warnings
    assert "'(column 3)' (1 row)" in warning
    columns = MAPPED["table"] | {"metadata": ["(column 3)"]}
    declared = build(workspace, tmp_path, "rows.csv", columns=columns)
    assert not declared.warnings
    assert [e.metadata["(column 3)"] for e in examples(workspace, declared)][2:5] == [None, "seen", None]


@pytest.mark.parametrize("column", ["system", "history", "tools", "weight"])
def test_a_column_that_is_declared_as_metadata_stays_beside_the_row(
    workspace: Workspace, tmp_path: Path, column: str
) -> None:
    rows = [LAYOUTS["table"](a) | {column: f"{a} 0.5"} for a in ANIMALS]
    columns = MAPPED["table"] | {"metadata": [column]}
    version = build(workspace, tmp_path, write(tmp_path, "csv", rows), columns=columns)
    assert not version.warnings
    for example, animal in zip(examples(workspace, version), ANIMALS, strict=True):
        assert [m.role for m in example.messages] == ["user", "assistant"]
        assert example.metadata[column] == f"{animal} 0.5"


def test_mapped_columns_of_the_prompt_go_by_any_name(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        LAYOUTS["table"](a)
        | {"role": f"Guard the {a}.", "before": [["Hi", f"Hi, {a}"]], "can": [TOOL], "use": 1}
        for a in ANIMALS
    ]
    columns = MAPPED["table"] | {"system": "role", "history": "before", "tools": "can", "weight": "use"}
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows), columns=columns)
    assert not version.warnings
    first = examples(workspace, version)[0].messages
    assert [m.role for m in first] == ["system", "user", "assistant", "user", "assistant"]
    assert read_functions(first[0].content) == ("Guard the otter.", (TOOL,))


def test_a_conversations_own_system_turn_goes_before_the_column_and_is_counted(
    workspace: Workspace, tmp_path: Path
) -> None:
    own = {"role": "system", "content": "Be brief."}
    rows = [
        {"messages": [own, user(asks(a)), assistant(says(a))], "system": "Be brief." if i else "Be long."}
        for i, a in enumerate(ANIMALS)
    ]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    assert {e.messages[0].content for e in examples(workspace, version)} == {"Be brief."}
    (warning,) = version.warnings
    assert "'system' differs from the conversation's own system turn, which was kept (1 row)" in warning


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"history": "once upon a time"}, "history"),
    ({"history": [["only a question"]]}, "history[0]"),
    ({"history": [["q", None]]}, "history[0]"),
    ({"history": ["q", "a"]}, "history[0]"),
    ({"tools": "hammer"}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"system": {"x": 1}}, "system"),
    ({"system": "a", "system_prompt": "b"}, "system_prompt"),
    ({"weight": 0.5}, "weight"),
    ({"weight": "heavy"}, "weight"),
    ({"images": ["a.png"]}, "images"),
    ({"audio": {"bytes": "x"}}, "audio"),
    ({"kto_tag": "perhaps"}, "kto_tag"),
]


@pytest.mark.parametrize("layout", ["chat", "sharegpt", "alpaca", "completion", "columns", "preference"])
def test_what_cannot_be_used_is_refused_by_the_columns_name(
    workspace: Workspace, tmp_path: Path, layout: str
) -> None:
    bad = [LAYOUTS[layout](f"cat {i}") | row for i, (row, _) in enumerate(REFUSED)]
    name = write(tmp_path, "jsonl", [LAYOUTS[layout](a * n) for n in (1, 2) for a in ANIMALS] + bad)
    version = build(workspace, tmp_path, name)
    dropped = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert [d.row for d in dropped] == [*range(2 * ROWS + 1, 2 * ROWS + 1 + len(REFUSED))]
    assert {d.reason for d in dropped} == {"bad_row"}
    assert [d.detail.split(": ")[0] for d in dropped] == [field for _, field in REFUSED]
    with pytest.raises(ConfigError, match=r"row 25: history: "):
        build(workspace, tmp_path, name, strict=True)


def test_a_class_of_true_and_false_is_no_unpaired_preference(tmp_path: Path) -> None:
    rows = [
        LAYOUTS["completion"](a) | {"completion": str(i % 2 == 0), "label": str(i % 2 == 0)}
        for i, a in enumerate(ANIMALS)
    ]
    assert len(read(tmp_path, write(tmp_path, "jsonl", rows))) == ROWS
    rows = [LAYOUTS["chat"](a) | {"label": "true"} for a in ANIMALS]
    assert len(read(tmp_path, write(tmp_path, "jsonl", rows))) == ROWS


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_empty_columns_of_the_prompt_say_nothing(workspace: Workspace, tmp_path: Path, empty: Any) -> None:
    beside = dict.fromkeys(("system", "history", "tools", "weight", "images", "kto_tag"), empty)
    if empty in ([], {}):
        del beside["weight"]
    rows = [LAYOUTS["alpaca"](a) | beside for a in ANIMALS]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    assert {len(e.messages) for e in examples(workspace, version)} == {2}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_row_of_weight_0_is_dropped_with_its_reason_and_number(
    workspace: Workspace, tmp_path: Path, layout: str
) -> None:
    weights = [0, 1, "0", 1.0, 0.0, "1", False, True, "false", "yes", "no", None]
    rows = [LAYOUTS[layout](a) | {"weight": w} for a, w in zip(ANIMALS, weights, strict=True)]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows), columns=MAPPED.get(layout, {}))
    dropped = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert [(d.row, d.reason) for d in dropped] == [(i, "no_trained_turn") for i in (1, 3, 5, 7, 9, 11)]
    assert version.rows_kept == 6


# TRL's layouts.


@pytest.mark.parametrize(
    "row",
    [
        lambda a: {"prompt": [user(asks(a))], "completion": [assistant(says(a))]},
        lambda a: {"prompt": [user(asks(a))], "completion": says(a)},
        lambda a: {"prompt": asks(a), "completion": [assistant(says(a))]},
        lambda a: {"prompt": asks(a), "completion": assistant(says(a))},
        lambda a: {"input": [user(asks(a))], "output": says(a)},
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_prompt_and_completion_may_each_be_turns_or_text(
    workspace: Workspace, tmp_path: Path, row: Any, form: str
) -> None:
    version = build(workspace, tmp_path, write(tmp_path, form, [row(a) for a in ANIMALS]))
    found = examples(workspace, version)
    assert [[(m.role, m.content, m.weight) for m in e.messages] for e in found] == [
        [("user", asks(a), 1), ("assistant", says(a), 1)] for a in ANIMALS
    ]


def test_of_a_conversational_prompt_only_the_completion_is_learnt(
    workspace: Workspace, tmp_path: Path
) -> None:
    rows = [
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                user(f"Hi {a}"),
                assistant("Hi!"),
                user(asks(a)),
            ],
            "completion": [assistant(says(a)), user("Sure?"), assistant(f"Yes, {a}.")],
            "tools": [TOOL],
            "chat_template_kwargs": {"enable_thinking": False},
        }
        for a in ANIMALS
    ]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    assert "'chat_template_kwargs' (12 rows)" in version.warnings[0]
    for example in examples(workspace, version):
        assert [m.weight for m in example.messages if m.role == "assistant"] == [0, 1, 1]
        assert read_functions(example.messages[0].content) == ("Be brief.", (TOOL,))


def test_a_prompt_that_ends_within_an_answer_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    rows = [LAYOUTS["trl"](a) for a in ANIMALS]
    rows[2]["prompt"].append(assistant("It sleeps"))
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    (dropped,) = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert (dropped.row, dropped.detail[:14]) == (3, "prompt[1].role")


# Layout, column, what it says of liked and of other answers.
LIKED_BY_LAYOUT: list[tuple[str, str, Any, Any]] = [
    *((layout, "label", True, False) for layout in ("completion", "trl", "chat")),
    *(("completion", "label", yes, no) for yes, no in ((1, 0), ("true", "false"), ("1.0", "0.0"))),
    *((layout, "kto_tag", True, False) for layout in ("chat", "sharegpt", "alpaca", "columns", "completion")),
    *(("columns", "thumb", yes, no) for yes, no in (("up", "down"), (1, -1), ("yes", "no"), (True, False))),
]


@pytest.mark.parametrize(("layout", "column", "yes", "no"), LIKED_BY_LAYOUT)
def test_unpaired_preferences_are_read_from_every_layout_and_written_again(
    workspace: Workspace, tmp_path: Path, layout: str, column: str, yes: Any, no: Any
) -> None:
    liked = [i % 3 > 0 for i in range(ROWS)]
    rows = [LAYOUTS[layout](a) | {column: yes if g else no} for a, g in zip(ANIMALS, liked, strict=True)]
    named: dict[str, Any] = {"desirable": column} if column == "thumb" else {}
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows), columns=named)
    assert (version.rows_kept, version.unpaired, version.preference) == (ROWS, True, False)
    assert not any("nothing reads" in warning for warning in version.warnings)
    assert version.labels is None
    folder = workspace.artifacts.path("datasets", version.id)
    found = {e.metadata["row"]: e.desirable for s in SPLITS for e in read_examples(folder, s)}
    assert found == dict(enumerate(liked, 1))
    assert sorted(read_columns(folder).desirable or ()) == sorted(liked)
    unjudged = build(workspace, tmp_path, "rows.jsonl", columns={"metadata": [column]})
    assert (unjudged.rows_kept, unjudged.unpaired) == (ROWS, False)
    ids = {e.id for s in SPLITS for e in read_examples(folder, s)}
    other = workspace.artifacts.path("datasets", unjudged.id)
    assert ids.isdisjoint(e.id for s in SPLITS for e in read_examples(other, s))


@pytest.mark.parametrize("form", ["alpaca", "csv", "hf", "sharegpt"])
def test_unpaired_preferences_survive_an_export(workspace: Workspace, tmp_path: Path, form: str) -> None:
    rows = [LAYOUTS["trl"](a) | {"label": i % 3 > 0} for i, a in enumerate(ANIMALS)]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    folder = workspace.artifacts.path("datasets", version.id)
    done = export_dataset(version, folder, tmp_path / "out", form=form)
    data = DataConfig.model_validate(yaml.safe_load(done.recipe)["data"])
    again = build_dataset(data, workspace, name="again", base_dir=tmp_path)
    there = workspace.artifacts.path("datasets", again.id)
    for split in SPLITS:
        before, after = ({e.id: e.desirable for e in read_examples(f, split)} for f in (folder, there))
        assert before == after
    with pytest.raises(ConfigError, match="unpaired preference"):
        export_dataset(version, folder, tmp_path / "openai", form="openai")


def test_an_answer_judged_both_ways_is_no_repeat(workspace: Workspace, tmp_path: Path) -> None:
    rows = [LAYOUTS["completion"](a) | {"label": g} for a in ANIMALS for g in (True, False, False)]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    assert version.rows_kept == 2 * ROWS
    assert version.dropped == {"exact_duplicate": ROWS}
    assert not any("different answers" in warning for warning in version.warnings)
    columns = read_columns(workspace.artifacts.path("datasets", version.id))
    (found,) = contradictions.find(columns, compare_prompts(columns, 0.9))
    assert found.kind == "contradiction"
    assert len(found.rows) == 2 * ROWS
    assert "is desirable in 1 row, undesirable in 1" in found.evidence[0].detail


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"kto_tag": True, "label": False}, "label"),
        ({"kto_tag": "maybe"}, "kto_tag"),
    ],
)
def test_what_says_nothing_clear_of_an_answer_is_refused(
    tmp_path: Path, workspace: Workspace, row: dict[str, Any], column: str
) -> None:
    rows = [LAYOUTS["completion"](a) | row for a in ANIMALS]
    with pytest.raises(ConfigError, match=column):
        build(workspace, tmp_path, write(tmp_path, "jsonl", rows))


@pytest.mark.parametrize("first", [0, 2])
def test_a_column_of_classes_judges_no_answer_because_some_are_0_and_1(
    workspace: Workspace, tmp_path: Path, first: int
) -> None:
    rows = [LAYOUTS["completion"](a) | {"label": (i + first) % 4} for i, a in enumerate(ANIMALS)]
    source = write(tmp_path, "jsonl", rows)
    if first == 0:  # the first row reads as a judgement, and later ones show that none was meant
        with pytest.raises(ConfigError, match=r"label.*is a class.*columns\.metadata"):
            build(workspace, tmp_path, source)
        version = build(workspace, tmp_path, source, columns={"metadata": ["label"]})
    else:
        version = build(workspace, tmp_path, source)
        assert any("nothing reads: 'label'" in warning for warning in version.warnings)
    assert (version.rows_kept, version.unpaired) == (ROWS, False)


def test_a_row_that_nobody_judged_does_not_fit_a_table_of_judged_ones(
    workspace: Workspace, tmp_path: Path
) -> None:
    rows = [LAYOUTS["trl"](a) | ({"label": True} if i % 2 else {}) for i, a in enumerate(ANIMALS)]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    assert (version.rows_kept, version.unpaired) == (ROWS, True)
    folder = workspace.artifacts.path("datasets", version.id)
    with pytest.raises(ConfigError, match="nothing says whether its answer is desirable") as caught:
        export_dataset(version, folder, tmp_path / "hf", form="hf")
    assert "alpaca" in (caught.value.hint or "")


def test_a_file_without_desirable_answers_is_nothing_to_be_held_against(tmp_path: Path) -> None:
    rows = [LAYOUTS["completion"](a) | {"label": i == 0} for i, a in enumerate(ANIMALS)]
    source, data = SourceConfig(path="rows.jsonl"), DataConfig(sources=(SourceConfig(path="rows.jsonl"),))
    (found,) = read_file(tmp_path / write(tmp_path, "jsonl", rows), source, data)
    assert found.desirable
    with pytest.raises(ConfigError, match=f"none of its {ROWS - 1} rows has a desirable answer"):
        read_file(tmp_path / write(tmp_path, "jsonl", rows[1:]), source, data)


def test_a_pair_takes_no_judgement_beside_it(workspace: Workspace, tmp_path: Path) -> None:
    rows = [LAYOUTS["preference"](a) | {"kto_tag": True} for a in ANIMALS]
    with pytest.raises(ConfigError, match=r"kto_tag.*a pair says itself"):
        build(workspace, tmp_path, write(tmp_path, "jsonl", rows))


def test_a_prompt_without_an_answer_says_what_is_missing(workspace: Workspace, tmp_path: Path) -> None:
    rows = [{"prompt": [user(asks(a))]} for a in ANIMALS]
    with pytest.raises(ConfigError, match="cannot tell how to read rows with the columns 'prompt'"):
        build(workspace, tmp_path, write(tmp_path, "jsonl", rows))


# Keys that a columnar file adds.

CALLS = [
    ("near", {"city": "Oslo"}),
    ("far", {"city": "Rome", "unit": {"name": "km"}}),
    ("when", {"day": "Monday", "hours": [{"from": 1}, {"to": 2}]}),
]
SCHEMAS = [
    {"name": n, "parameters": {"type": "object", "properties": {k: {"type": "string"} for k in args}}}
    for n, args in CALLS
]


def called(i: int, animal: str) -> dict[str, Any]:
    name, arguments = CALLS[i % 3]
    call = {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
    turns = [user(asks(animal)), {"role": "assistant", "content": None, "tool_calls": [call]}]
    return {
        "messages": [
            *turns,
            {"role": "tool", "content": "7", "tool_call_id": f"c{i}"},
            assistant(says(animal)),
        ],
        "tools": [{"type": "function", "function": SCHEMAS[i % 3]}],
    }


@pytest.mark.parametrize("form", ["parquet", "arrow", "jsonl"])
def test_keys_that_a_columnar_file_fills_with_null_are_no_part_of_the_text(
    workspace: Workspace, tmp_path: Path, form: str
) -> None:
    rows = [called(i, a) for i, a in enumerate(ANIMALS)]
    if form == "arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(tmp_path / "rows.arrow", table.schema) as writer:
            writer.write_table(table)
    else:
        write(tmp_path, form, rows)
    version = build(workspace, tmp_path, f"rows.{form}")
    for i, example in enumerate(examples(workspace, version)):
        name, arguments = CALLS[i % 3]
        (call,) = read_answer(example.messages[2].content).calls
        assert (call.name, json.loads(call.arguments)) == (name, arguments)
        assert "null" not in "".join(m.content for m in example.messages)
        assert read_functions(example.messages[0].content).functions == (SCHEMAS[i % 3],)
    left_out = [w for w in version.warnings if "left out" in w]
    if form == "jsonl":
        assert not left_out
    else:
        assert "'messages.tool_calls.function.arguments.city' (4 rows)" in left_out[0]
        assert "'tools.function.parameters.properties.day' (8 rows)" in left_out[0]


def test_nulls_that_a_row_itself_writes_stay(workspace: Workspace, tmp_path: Path) -> None:
    rows = [called(i, a) for i, a in enumerate(ANIMALS)]
    rows[0]["messages"][1]["tool_calls"][0]["function"]["arguments"] = {"city": "Oslo", "unit": None}
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    (call,) = read_answer(examples(workspace, version)[0].messages[2].content).calls
    assert json.loads(call.arguments) == {"city": "Oslo", "unit": None}
    # In a map and in JSON text the keys are each row's own.
    pairs = pa.array([[("city", "Oslo"), ("unit", None)]] * ROWS, pa.map_(pa.string(), pa.string()))
    answers = pa.array([json.dumps({"city": a, "unit": None}) for a in ANIMALS])
    table = pa.table({"input": [asks(a) for a in ANIMALS], "output": answers, "about": pairs})
    pq.write_table(table, tmp_path / "rows.parquet")
    source = {"output_json": True, "columns": {"metadata": ["about"]}}
    found = examples(workspace, build(workspace, tmp_path, "rows.parquet", **source))
    assert found[0].reference == '{"city":"otter","unit":null}'
    assert found[0].metadata["about"] == {"city": "Oslo", "unit": None}


def test_null_keys_of_answers_that_are_objects_are_learnt_and_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    rows = [
        {"input": asks(a), "output": {"animal": a, "tip": None if i else 2}} for i, a in enumerate(ANIMALS)
    ]
    version = build(workspace, tmp_path, write(tmp_path, "parquet", rows), output_json=True)
    assert examples(workspace, version)[1].reference == '{"animal":"heron","tip":null}'
    (warning,) = version.warnings
    assert "keys of answers are learnt as null: 'output.tip' (11 rows)" in warning


# Turns that are not to be learnt.

OFF = [
    {"weight": 0},
    {"weight": "0"},
    {"weight": 0.0},
    {"weight": False},
    {"train": False},
    {"train": "false"},
    {"training": "no"},
    {"trainable": False},
    {"loss": False},
    {"loss_weight": 0},
    {"loss_scale": 0.0},
    {"loss_mask": 0},
    {"masked": True},
    {"train_detail": [{"begin_offset": 0, "end_offset": 5, "train": False}]},
]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("spelling", ["openai", "sharegpt"])
@pytest.mark.parametrize("place", ["middle", "end", "broken end"])
def test_a_turn_that_is_not_to_be_learnt_is_context_in_every_spelling(
    workspace: Workspace, tmp_path: Path, form: str, spelling: str, place: str
) -> None:
    def turn(role: str, text: Any, **flags: Any) -> dict[str, Any]:
        if spelling == "openai":
            return {"role": role, "content": text, **flags}
        return {"from": {"user": "human", "assistant": "gpt"}[role], "value": text, **flags}

    secret = "I must not be learnt"
    rows, animals = [], [f"{animal} {i}" for i, animal in enumerate((*ANIMALS, *ANIMALS)[: len(OFF)])]
    for animal, off in zip(animals, OFF, strict=True):
        learnt = [turn("user", asks(animal)), turn("assistant", says(animal))]
        unlearnt = [turn("user", f"And the {animal}?"), turn("assistant", secret, **off)]
        if place == "broken end":
            unlearnt[1] = turn("assistant", None, **off)
        turns = [*unlearnt, *learnt] if place == "middle" else [*learnt, *unlearnt]
        rows.append({"messages" if spelling == "openai" else "conversations": turns})
    if form == "parquet":  # a column has one type
        for written in (t for row in rows for turns in row.values() for t in turns):
            written |= {k: str(v) for k, v in written.items() if isinstance(v, (bool, int, float))}
    version = build(workspace, tmp_path, write(tmp_path, form, rows))
    found = examples(workspace, version)
    assert [e.reference for e in found] == [says(a) for a in animals]
    assert not [m for e in found for m in e.messages if m.content == secret and m.weight]
    assert {len(e.messages) for e in found} == {4 if place == "middle" else 2}
    cut = [w for w in version.warnings if "behind the last one that is learnt were left out (14 rows)" in w]
    assert len(cut) == (place != "middle")


def test_a_row_whose_every_answer_is_off_has_no_target(workspace: Workspace, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [LAYOUTS["chat"](a) for a in ANIMALS]
    rows[5] = {"messages": [user("a"), assistant("b", train=False), user("c"), assistant("d", weight=0)]}
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    (dropped,) = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert (dropped.row, dropped.reason) == (6, "no_trained_turn")


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"weight": 0.5}, "messages[1].weight"),
    ({"loss_scale": 2}, "messages[1].loss_scale"),
    ({"train": "perhaps"}, "messages[1].train"),
    ({"weight": 1, "masked": True}, "messages[1]"),
    ({"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": True}]}, "messages[1].train_detail"),
    ({"mask": 1}, "messages[1].mask"),
]


def test_flags_that_cannot_be_honoured_are_refused_by_name(workspace: Workspace, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [LAYOUTS["chat"](a * n) for n in (1, 2) for a in ANIMALS]
    for row, (flags, _) in zip(rows, UNUSABLE, strict=False):
        row["messages"][1] |= flags
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    dropped = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert [(d.row, d.detail.split(": ")[0]) for d in dropped] == [
        (i, field) for i, (_, field) in enumerate(UNUSABLE, 1)
    ]


def test_flags_of_users_turns_change_nothing(workspace: Workspace, tmp_path: Path) -> None:
    off = {"train": False}
    rows = [
        {"messages": [user(asks(a)) | off, assistant(says(a), train=True), user("Bye") | off]}
        for a in ANIMALS
    ]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    assert [e.reference for e in examples(workspace, version)] == [says(a) for a in ANIMALS]


def test_another_files_references_are_answers_that_are_learnt(tmp_path: Path) -> None:
    rows = [
        {"messages": [user(asks(a)), assistant(says(a)), user("Sure?"), assistant("No.", weight=0)]}
        for a in ANIMALS
    ]
    found = read(tmp_path, write(tmp_path, "jsonl", rows))
    assert [e.reference for e in found] == [says(a) for a in ANIMALS]


def test_broken_calls_stop_no_other_row(workspace: Workspace, tmp_path: Path) -> None:
    rows = [called(i, a) for i, a in enumerate(ANIMALS)]
    rows[7]["messages"][1]["tool_calls"][0]["function"]["arguments"] = '{"city": "Os'
    name = write(tmp_path, "jsonl", rows)
    version = build(workspace, tmp_path, name)
    (dropped,) = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert (dropped.row, dropped.detail.split(":")[0]) == (8, "messages[1].tool_calls")
    with pytest.raises(ConfigError, match=r"row 8: messages\[1\].tool_calls"):
        build(workspace, tmp_path, name, strict=True)


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_of_a_pair_only_the_preferred_answer_must_be_learnt(
    workspace: Workspace, tmp_path: Path, side: str
) -> None:
    rows = []
    for i, a in enumerate(ANIMALS):
        pair = {"chosen": assistant(says(a)), "rejected": assistant(f"No {a}.")}
        pair[side] |= {"weight": 0 if i < 3 else 1}
        rows.append({k: [user(asks(a)), assistant("Hm?", weight=int(k == side)), v] for k, v in pair.items()})
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    dropped = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert [(d.row, d.reason) for d in dropped] == [
        (i, "no_trained_turn") for i in (1, 2, 3) if side == "chosen"
    ]
    assert examples(workspace, version)[-1].rejected == f"No {ANIMALS[-1]}."


def test_keys_of_turns_that_nothing_reads_are_named(workspace: Workspace, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [LAYOUTS["sharegpt"](a) for a in ANIMALS]
    rows[0]["conversations"][1] |= {"markdown": "**x**", "text": None}
    write(tmp_path, "jsonl", rows)
    (warning,) = build(workspace, tmp_path, "rows.jsonl").warnings
    assert "conversations: turns have keys that nothing reads: 'markdown' (1 row)" in warning
    rows = [{"messages": [user(asks(a)) | {"name": "Ann"}, assistant(says(a))]} for a in ANIMALS]
    (warning,) = build(workspace, tmp_path, write(tmp_path, "jsonl", rows)).warnings
    assert "messages: turns have keys that nothing reads: 'name' (12 rows)" in warning


def test_the_first_rows_keys_do_not_decide_where_later_rows_have_their_turns(tmp_path: Path) -> None:
    layouts = ("chat", "sharegpt")
    rows = [LAYOUTS[layouts[i % 2]](a) for i, a in enumerate(ANIMALS)]
    found = read(tmp_path, write(tmp_path, "jsonl", rows))
    assert [e.reference for e in found] == [says(a) for a in ANIMALS]


@pytest.mark.parametrize("first", [True, False])
def test_a_part_of_the_prompt_beside_a_list_of_rows_is_refused(tmp_path: Path, first: bool) -> None:
    rows = {"rows": [LAYOUTS["columns"](a) for a in ANIMALS]}
    system = {"system_prompt": "Be brief."}
    (tmp_path / "rows.json").write_text(json.dumps(system | rows if first else rows | system))
    with pytest.raises(ConfigError, match="'system_prompt' stands beside the list of rows"):
        read(tmp_path, "rows.json")
    (tmp_path / "rows.json").write_text(json.dumps({"version": 2, "tools": []} | rows))
    assert len(read(tmp_path, "rows.json")) == ROWS


def test_what_reviewers_answered_to_is_no_column_that_nothing_reads(
    workspace: Workspace, tmp_path: Path
) -> None:
    records = [
        {
            "fields": {"text": asks(a), "hint": f"about the {a}"},
            "metadata": {"batch": 1},
            "responses": {"reply": [{"value": says(a), "user_id": "u"}]},
            "suggestions": {},
        }
        for a in ANIMALS
    ]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", records))
    (warning,) = version.warnings
    assert "reads: 'hint' (12 rows); " in warning


def test_openais_pairs_have_their_columns_within_their_input(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        {
            "input": {"messages": [user(asks(a))], "tools": [TOOL], "system": "Be brief.", "seed": 1},
            "preferred_output": [assistant(says(a))],
            "non_preferred_output": [assistant(f"No {a}.")],
        }
        for a in ANIMALS
    ]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    (warning,) = version.warnings
    assert "input have keys that nothing reads: 'seed' (12 rows)" in warning
    for example in examples(workspace, version):
        assert read_functions(example.messages[0].content) == ("Be brief.", (TOOL,))


def test_sharegpts_pairs_have_their_prompt_in_its_turns(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        {
            "conversations": [{"from": "human", "value": asks(a)}],
            "chosen": {"from": "gpt", "value": says(a)},
            "rejected": {"from": "gpt", "value": f"No {a}."},
            "system": f"You watch the {a}.",
        }
        for a in ANIMALS
    ]
    version = build(workspace, tmp_path, write(tmp_path, "jsonl", rows))
    assert not version.warnings
    for example, a in zip(examples(workspace, version), ANIMALS, strict=True):
        turns = [("system", f"You watch the {a}."), ("user", asks(a)), ("assistant", says(a))]
        assert [(m.role, m.content) for m in example.messages] == turns
        assert example.rejected == f"No {a}."
