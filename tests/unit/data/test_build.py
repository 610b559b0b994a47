"""A dataset version from files: counts that add up, ids that name content, bad input refused whole."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunery.core.config import parse_settings
from tunery.core.dataset import DatasetVersion
from tunery.core.errors import ConfigError
from tunery.core.example import Example, content_sha256
from tunery.core.ids import sha256_text
from tunery.core.progress import Silent
from tunery.core.splits import SPLITS
from tunery.core.tool_text import read_answer
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig
from tunery.data.curate import curate
from tunery.data.readers.source import locate
from tunery.data.version.write import write_version
from tunery.store.dataset_files import read_columns, read_dropped, read_examples
from tunery.store.workspace import Workspace

RECIPES = Path(__file__).parents[3] / "recipes"
TEXT = {"input": "text", "output": "category"}


def config(path: str = "rows.csv", **settings: Any) -> DataConfig:
    source = {"path": path, "columns": TEXT, **settings.pop("source", {})}
    return parse_settings(DataConfig, {"sources": [source], **settings}, where="data")


def build(
    workspace: Workspace, folder: Path, settings: DataConfig | None = None, **more: Any
) -> DatasetVersion:
    return build_dataset(settings or config(), workspace, name="test", base_dir=folder, **more)


def everything(workspace: Workspace, version: DatasetVersion) -> dict[str, list[Example]]:
    folder = workspace.artifacts.path("datasets", version.id)
    return {split: read_examples(folder, split) for split in SPLITS}  # type: ignore[arg-type]


def questions(count: int) -> list[tuple[str, str]]:
    topics = ["card", "transfer", "refund", "passcode"]
    openings = ["Where is", "Why is there", "What about", "Tell me of", "I lost"]
    return [
        (f"{openings[i % 5]} {chr(97 + i % 26) * 3}{i} the {topics[i % 4]}?", topics[i % 4])
        for i in range(count)
    ]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pl.DataFrame(questions(60), schema=["text", "category"], orient="row").write_csv(tmp_path / "rows.csv")
    return tmp_path


def test_banking77_gives_the_known_counts(workspace: Workspace) -> None:
    settings = config(
        "data/banking77-train.csv",
        source={"label_style": "words"},
        split={"test": 770, "validation": 385},
        system_prompt="Name the intent.",
    )
    version = build(workspace, RECIPES, settings)
    assert version.rows_read == 10_003
    # 31 rows repeat another but for case and punctuation (a published count). Two of them differ in the
    # currency sign, one in a smiley, one in a dash, two in a space that lacks behind a mark, and one pair has
    # two labels: those seven stay.
    assert version.dropped["exact_duplicate"] == 24
    assert version.dropped["near_duplicate"] < 100
    assert version.splits["test"] == 770
    assert version.splits["validation"] == 385
    assert version.labels is not None
    assert len(version.labels) == 77
    assert "card arrival" in version.labels
    assert version.masked == {}
    assert version.rows_read == version.rows_kept + sum(version.dropped.values())

    limited = build(
        workspace,
        RECIPES,
        settings.model_copy(
            update={"sources": (settings.sources[0].model_copy(update={"limit_per_class": 26}),)}
        ),
    )
    assert limited.splits["train"] == 77 * 26
    assert limited.dropped["over_limit"] == version.splits["train"] - 77 * 26
    before, after = everything(workspace, version), everything(workspace, limited)
    assert before["test"] == after["test"]
    assert before["validation"] == after["validation"]
    assert {e.id for e in after["train"]} < {e.id for e in before["train"]}


def test_receipts_become_compact_json_and_open_text(workspace: Workspace) -> None:
    settings = parse_settings(
        DataConfig,
        {
            "sources": [
                {
                    "path": "data/sroie.jsonl",
                    "columns": {"input": "text", "output": "key"},
                    "output_json": True,
                }
            ]
        },
        where="data",
    )
    version = build(workspace, RECIPES, settings)
    assert version.labels is None
    assert version.rows_read == 626
    for example in everything(workspace, version)["test"]:
        assert set(json.loads(example.reference)) <= {"company", "date", "address", "total"}


def test_the_same_inputs_give_the_same_version_without_working_twice(
    workspace: Workspace, rows: Path
) -> None:
    first = build(workspace, rows)
    moved = rows / "elsewhere"
    moved.mkdir()
    (rows / "rows.csv").rename(moved / "renamed.csv")
    again = build(workspace, moved, config("renamed.csv"))
    assert again == first
    assert len(workspace.datasets.list()) == 1
    assert not workspace.artifacts.damage("datasets", first.id)


@pytest.mark.parametrize(
    "change",
    [
        {"split": {"seed": 1}},
        {"system_prompt": "Hi."},
        {"clean": {"near_threshold": 0.95}},
        {"source": {"limit_per_class": 5}},
    ],
)
def test_another_setting_gives_another_version(
    workspace: Workspace, rows: Path, change: dict[str, Any]
) -> None:
    assert build(workspace, rows).id != build(workspace, rows, config(**change)).id


def test_other_content_gives_another_version(workspace: Workspace, rows: Path) -> None:
    first = build(workspace, rows)
    with (rows / "rows.csv").open("a") as stream:
        stream.write("One more question,card\n")
    second = build(workspace, rows)
    assert (second.id, second.content_sha256) != (first.id, first.content_sha256)
    assert second.rows_read == first.rows_read + 1


def test_two_workspaces_agree_on_id_and_content(workspace: Workspace, rows: Path, tmp_path: Path) -> None:
    home = tmp_path / "second"
    other = Workspace.open(home, database_url=f"sqlite:///{home / 'tunery.db'}")
    first, second = build(workspace, rows), build(other, rows)
    other.close()
    assert (first.id, first.content_sha256) == (second.id, second.content_sha256)


def test_a_version_whose_record_was_lost_is_found_again(workspace: Workspace, rows: Path) -> None:
    first = build(workspace, rows)
    home = workspace.root / "rebuilt.db"
    other = Workspace.open(workspace.root, database_url=f"sqlite:///{home}")
    assert build(other, rows) == first
    assert other.datasets.get(first.id) == first
    other.close()


def test_what_is_stored_is_what_was_curated(workspace: Workspace, rows: Path) -> None:
    version = build(workspace, rows, config(source={"columns": {**TEXT, "metadata": ["category"]}}))
    folder = workspace.artifacts.path("datasets", version.id)
    frame = pl.read_parquet(folder / "examples.parquet")
    splits = frame["split"].to_list()
    by_id = {e.id: e for split in everything(workspace, version).values() for e in split}
    assert len(by_id) == len(frame)
    lines = [
        f"{r['split']}\t{r['group']}\t{json.dumps(r['label'])}\t"
        f"{content_sha256(by_id[r['id']].messages, by_id[r['id']].rejected)}\n"
        for r in frame.iter_rows(named=True)
    ]
    assert sha256_text("".join(lines)) == version.content_sha256
    assert Counter(splits) == {k: v for k, v in version.splits.items() if v}
    assert frame.schema["row"] == pl.Int64
    assert all(e.metadata["category"] == e.label for e in by_id.values())
    assert workspace.artifacts.about("datasets", version.id)["dropped"] == dict(version.dropped)


def test_dropped_rows_are_kept_with_reason_and_without_personal_data(
    workspace: Workspace, rows: Path
) -> None:
    with (rows / "rows.csv").open("a") as stream:
        stream.write(
            "Where is AAA0 THE card,card\n,card\nMail me at a@b.org,card\nmail me at c@d.org!,card\nx,\n"
        )
    version = build(workspace, rows)
    dropped = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert [(d.row, d.reason) for d in dropped] == [
        (61, "exact_duplicate"),
        (62, "empty_input"),
        (64, "exact_duplicate"),
        (65, "empty_output"),
    ]
    assert dropped[2].detail == "repeats row 63 of rows.csv"
    assert json.loads(dropped[2].text)["messages"][0]["content"] == "mail me at <EMAIL_ADDRESS>!"
    assert json.loads(dropped[3].text) == {"text": "x", "category": None}
    assert version.masked == {"EMAIL_ADDRESS": 2}


def test_rows_over_the_token_limit_are_dropped_not_cut(
    workspace: Workspace, rows: Path, tiny_model: Path
) -> None:
    from tunery.model.tokenizer import load_tokenizer

    with (rows / "rows.csv").open("a") as stream:
        stream.write("very long " * 60 + ",card\n")
    version = build(workspace, rows, tokenizer=load_tokenizer(tiny_model), max_tokens=128)
    assert version.dropped == {"too_long": 1}
    unmeasured = build(workspace, rows, max_tokens=128)
    assert unmeasured.rows_kept == version.rows_kept + 1
    assert unmeasured.id != version.id
    assert any("no tokenizer" in w for w in unmeasured.warnings)


def test_a_validation_file_of_its_own_is_kept_whole_and_never_trained_on(
    workspace: Workspace, rows: Path
) -> None:
    held = [("Where is AAA0, the card?", "card"), ("Something else entirely", "refund"), ("And more", "card")]
    pl.DataFrame(held, schema=["text", "category"], orient="row").write_csv(rows / "held.csv")
    sources = [
        {"path": "rows.csv", "columns": TEXT},
        {"path": "held.csv", "columns": TEXT, "split": "validation"},
    ]
    version = build(workspace, rows, parse_settings(DataConfig, {"sources": sources}, where="data"))
    found = everything(workspace, version)
    assert [e.metadata["source"] for e in found["validation"]] == ["held.csv"] * 3
    assert version.dropped == {"exact_duplicate": 1}
    (dropped,) = read_dropped(workspace.artifacts.path("datasets", version.id))
    assert (dropped.source, dropped.row) == ("rows.csv", 1)


def test_a_training_row_that_resembles_a_held_out_one_with_another_answer_goes(
    workspace: Workspace, rows: Path
) -> None:
    pl.DataFrame([("Where is aaa0 the card", "refund")], schema=["text", "category"], orient="row").write_csv(
        rows / "held.csv"
    )
    sources = [
        {"path": "rows.csv", "columns": TEXT},
        {"path": "held.csv", "columns": TEXT, "split": "test"},
    ]
    version = build(workspace, rows, parse_settings(DataConfig, {"sources": sources}, where="data"))
    assert version.dropped == {"held_out_elsewhere": 1}
    assert version.splits["test"] == 1


def test_the_newest_rows_are_held_out_where_the_split_goes_by_time(workspace: Workspace, rows: Path) -> None:
    dated = [
        (text, topic, f"2026-{1 + i % 12:02d}-{1 + i // 12:02d}")
        for i, (text, topic) in enumerate(questions(60))
    ]
    pl.DataFrame(dated, schema=["text", "category", "day"], orient="row").write_csv(rows / "rows.csv")
    settings = config(
        source={"columns": {**TEXT, "metadata": ["day"]}},
        split={"test": 12, "validation": 6, "by_time": "day"},
    )
    found = everything(workspace, build(workspace, rows, settings))
    days = {split: [e.metadata["day"] for e in examples] for split, examples in found.items()}
    assert [len(days[s]) for s in SPLITS] == [42, 6, 12]
    assert max(days["train"]) <= min(days["validation"])
    assert max(days["validation"]) <= min(days["test"])


@pytest.mark.parametrize("wrong", ["soon", "inf"])
def test_a_row_without_a_time_is_named(workspace: Workspace, rows: Path, wrong: str) -> None:
    dated = [(*pair, wrong if i == 3 else "2026-01-01") for i, pair in enumerate(questions(60))]
    pl.DataFrame(dated, schema=["text", "category", "day"], orient="row").write_csv(rows / "rows.csv")
    settings = config(source={"columns": {**TEXT, "metadata": ["day"]}}, split={"by_time": "day"})
    with pytest.raises(ConfigError, match=f"row 4 of rows.csv: day is '{wrong}', no number and no date"):
        build(workspace, rows, settings)
    with pytest.raises(ConfigError, match=r"add it to its columns\.metadata"):
        config(split={"by_time": "day"})


def test_every_combination_of_attributes_gets_its_share(workspace: Workspace, rows: Path) -> None:
    shops = [(*pair, "web" if i % 3 else "shop") for i, pair in enumerate(questions(120))]
    pl.DataFrame(shops, schema=["text", "category", "channel"], orient="row").write_csv(rows / "rows.csv")
    settings = config(
        source={"columns": {**TEXT, "metadata": ["channel"]}},
        split={"test": 24, "validation": 12, "stratify": ["label", "channel"]},
    )
    found = everything(workspace, build(workspace, rows, settings))
    counts = Counter((e.label, e.metadata["channel"]) for e in found["test"])
    assert sum(counts.values()) == 24
    assert len(counts) == 8
    assert {
        channel: sum(n for (_, c), n in counts.items() if c == channel) for channel in ("web", "shop")
    } == {
        "web": 16,
        "shop": 8,
    }


def test_rows_of_one_user_share_a_split(workspace: Workspace, rows: Path) -> None:
    frame = pl.read_csv(rows / "rows.csv").with_row_index("user").with_columns(pl.col("user") // 6)
    frame.write_csv(rows / "users.csv")
    settings = config(
        "users.csv",
        source={"columns": {**TEXT, "group": "user", "metadata": ["user"]}},
        split={"test": 12, "validation": 6},
    )
    found = everything(workspace, build(workspace, rows, settings))
    homes = {split: {e.metadata["user"] for e in examples} for split, examples in found.items()}
    assert len(found["test"]) == 12
    assert homes["train"].isdisjoint(homes["test"] | homes["validation"])
    assert homes["test"].isdisjoint(homes["validation"])


@pytest.mark.parametrize("assign", ["exact", "hash"])
def test_rows_with_a_value_in_common_in_any_group_column_share_a_split(
    workspace: Workspace, rows: Path, assign: str
) -> None:
    frame = pl.read_csv(rows / "rows.csv").with_row_index("n")
    # Users have five rows each; one talk ties the first user to the third, and so on in every fourth.
    frame = frame.with_columns(
        user=pl.col("n") // 5,
        talk=pl.when(pl.col("n") % 20 == 4).then(pl.col("n") + 6).otherwise(pl.col("n") + 1000),
    )
    frame = frame.with_columns(
        talk=pl.when(pl.col("n") % 20 == 10).then(pl.col("n")).otherwise(pl.col("talk"))
    )
    frame.write_csv(rows / "talks.csv")
    found = everything(
        workspace,
        build(
            workspace,
            rows,
            config(
                "talks.csv",
                source={"columns": {**TEXT, "group": ["user", "talk"], "metadata": ["user", "talk"]}},
                split={"test": 0.2, "validation": 0.1, "assign": assign},
            ),
        ),
    )
    for column in ("user", "talk"):
        homes: dict[int, set[str]] = {}
        for split, examples in found.items():
            for example in examples:
                homes.setdefault(example.metadata[column], set()).add(split)
        assert all(len(home) == 1 for home in homes.values())
    first = {e.metadata["user"]: e.group for examples in found.values() for e in examples}
    assert first["0"] == first["2"] != first["1"]
    assert found["test"]


def test_files_that_map_different_group_columns_are_tied_by_what_they_share(
    workspace: Workspace, rows: Path
) -> None:
    frame = pl.read_csv(rows / "rows.csv").with_row_index("n")
    frame = frame.with_columns(user=pl.col("n") // 4, talk=pl.col("n"))
    for half in (0, 1):
        frame.filter(pl.col("n") % 2 == half).write_csv(rows / f"half-{half}.csv")
    columns = [{**TEXT, "metadata": ["user"], "group": group} for group in ("user", ["user", "talk"])]
    sources = [{"path": f"half-{half}.csv", "columns": columns[half]} for half in (0, 1)]
    settings = parse_settings(
        DataConfig, {"sources": sources, "split": {"test": 0.3, "validation": 0.1}}, where="data"
    )
    homes: dict[str, set[str]] = {}
    for split, examples in everything(workspace, build(workspace, rows, settings)).items():
        for example in examples:
            homes.setdefault(example.metadata["user"], set()).add(split)
    assert all(len(home) == 1 for home in homes.values())
    assert len(set.union(*homes.values())) == 3


def test_masking_and_cleaning_leave_calls_readable(workspace: Workspace, rows: Path) -> None:
    lines = []
    for i in range(20):
        arguments = {
            "to": f"Contact: bob{i}@example.com, thanks",
            "body": f"Hi\nbob{i}@example.com wrote\u2028<br/>&quot;{i}&quot;",
            "card": 4111111111111111,
            "times": 3,
        }
        call = {"function": {"name": "mail", "arguments": json.dumps(arguments)}}
        turns = [
            {"role": "user", "content": f"write to number {i}"},
            {"role": "assistant", "tool_calls": [call]},
        ]
        lines.append(json.dumps({"messages": turns}))
    (rows / "calls.jsonl").write_text("\n".join(lines))
    settings = parse_settings(
        DataConfig,
        {
            "sources": [{"path": "calls.jsonl"}],
            "labels": "open",
            "clean": {"strip_html": True, "near_duplicates": "off"},
        },
        where="data",
    )
    version = build(workspace, rows, settings)
    assert version.masked == {"CREDIT_CARD": 20, "EMAIL_ADDRESS": 40}
    for example in everything(workspace, version)["train"]:
        (call,) = read_answer(example.reference).calls
        said = json.loads(call.arguments)
        assert said["to"] == "Contact: <EMAIL_ADDRESS>, thanks"
        assert said["body"].startswith("Hi\n<EMAIL_ADDRESS> wrote")
        assert (said["card"], said["times"]) == ("<CREDIT_CARD>", 3)


def test_a_limit_draws_from_all_of_a_sorted_file(workspace: Workspace, rows: Path) -> None:
    frame = pl.read_csv(rows / "rows.csv").sort("category")
    frame.write_csv(rows / "sorted.csv")
    version = build(workspace, rows, config("sorted.csv", source={"limit": 30}, labels="closed"))
    assert version.dropped == {"over_limit": 30}
    assert version.labels == ("card", "passcode", "refund", "transfer")


WORDS = st.sampled_from(
    ["card", "Card", "lost", "my", "the", "a@b.org", "+1-555-123-4567", "where?", "12", "13", "refund", "now"]
)
DRAFTS = st.lists(
    st.tuples(
        st.lists(WORDS, max_size=6).map(" ".join), st.sampled_from(["yes", "no", "", "a longer answer"])
    ),
    min_size=1,
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    DRAFTS,
    st.sampled_from(["drop", "group", "off"]),
    st.booleans(),
    st.sampled_from(["auto", "closed", "open"]),
    st.none() | st.integers(1, 5),
    st.sampled_from(["hash", "exact"]),
)
def test_no_row_is_lost_without_a_reason_and_no_group_straddles(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[str, str]],
    near: str,
    exact: bool,
    labels: str,
    limit: int | None,
    assign: str,
) -> None:
    folder = tmp_path_factory.mktemp("curate")
    lines = [json.dumps({"text": question, "category": answer}) for question, answer in pairs]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    chosen = config(
        "rows.jsonl",
        clean={"near_duplicates": near, "exact_duplicates": exact},
        labels=labels,
        source={"limit_per_class": limit},
        split={"test": 0.3, "validation": 0.2, "assign": assign},
    )
    source = locate(chosen.sources[0], folder)
    try:
        with curate(
            [source],
            chosen,
            tokenizer=None,
            max_tokens=None,
            scratch=folder / "rows",
            progress=Silent(),
        ) as curated:
            write_version(curated, folder)
            counts, classes = curated.dropped_counts(), curated.labels
            columns = replace(curated.columns(), groups=())
    except ConfigError:
        return
    kept = {split: read_examples(folder, split) for split in SPLITS}
    assert columns == replace(read_columns(folder), groups=())
    dropped = read_dropped(folder)
    examples = [e for split in SPLITS for e in kept[split]]
    assert sorted([e.metadata["row"] for e in examples] + [d.row for d in dropped]) == list(
        range(1, len(pairs) + 1)
    )
    assert all(d.reason and d.detail for d in dropped)
    assert Counter(d.reason for d in dropped) == counts
    assert len({e.id for e in examples}) == len(examples)
    homes: dict[str, set[str]] = {}
    prompts: dict[str, set[str]] = {}
    for split in SPLITS:
        for example in kept[split]:
            homes.setdefault(example.group, set()).add(split)
            prompts.setdefault(example.prompt[-1].content.casefold(), set()).add(split)
    assert all(len(h) == 1 for h in homes.values())
    assert all(len(h) == 1 for h in prompts.values())
    if classes is not None:
        assert {e.label for e in examples} == set(classes)


BAD_FILES = [
    ("missing.csv", None, {}, "missing.csv: no such file"),
    ("row.csv", None, {}, "did you mean 'rows.csv'"),
    ("a.csv", b"", {}, "the file is empty"),
    ("a.csv", b"text,category\n", {}, "there is no row in the file"),
    ("a.csv", b"text;category\nx;a\n", {"source": {"delimiter": ","}}, "with ';' there are 2"),
    ("a.csv", b"text,label\nx,a\n", {}, r"no column 'category' \(there is: 'text', 'label'\)"),
    ("a.csv", b"test,category\nx,a\n", {}, "no column 'text'; did you mean 'test'"),
    ("a.csv", b"text,category\n" + b"NaN,a\n" * 20, {}, "column 'text' is empty in all 20 rows"),
    ("a.csv", b"text,category\nx,a\ny,b\nz,a\n", {}, "too few rows to split: 3 after cleaning, at least 10"),
    ("a.csv", b"text,category\n" + b"".join(b"q%d,a\n" % i for i in range(20)), {}, "one class only"),
    ("a.csv", "text,category\ncafé,a\n".encode("latin-1"), {}, "not UTF-8 at byte 17"),
    ("a.csv", b'text,category\n"' + b"x" * 3_000_000 + b'",a\n', {}, "longer than 1,048,576 bytes"),
    ("a.csv", b"text,text,category\nx,y,a\n", {}, "named twice in the header: 'text'"),
    ("a.xyz", b"text,category\nx,a\n", {}, "the ending '.xyz' tells no format"),
    ("a.parquet", b"no parquet", {}, "not a readable Parquet file"),
    ("a.jsonl", b'{"text": "x", "category": "a"}\n{"text": \n', {}, r"row 2: \(row\): .*not JSON"),
    (
        "a.jsonl",
        b'{"instruction": "x", "output": "y"}\n{"messages": []}\n',
        {"source": {"columns": {}}},
        "row 2.*this is a chat row among instruction rows",
    ),
    ("a.jsonl", b'{"text": "x", "category": {"a": 1}}\n', {}, "row 1: category.*output_json: true"),
    ("a.jsonl", b'{"text": "x"}\n' * 12, {}, "no column 'category'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "settings", "says"), BAD_FILES)
def test_bad_input_is_refused_with_exit_code_two_and_nothing_is_written(
    workspace: Workspace, rows: Path, name: str, content: bytes | None, settings: dict[str, Any], says: str
) -> None:
    if content is not None:
        (rows / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"(?s){says}") as caught:
        build(workspace, rows, config(name, **settings))
    assert caught.value.exit_code == 2
    assert workspace.artifacts.ids("datasets") == []
    assert workspace.datasets.list() == []
    assert not list(workspace.root.glob("datasets/*"))


def test_all_missing_files_are_told_at_once(workspace: Workspace, rows: Path) -> None:
    sources = [{"path": "a.csv"}, {"path": "b.csv"}]
    with pytest.raises(ConfigError, match="2 problems") as caught:
        build(workspace, rows, parse_settings(DataConfig, {"sources": sources}, where="data"))
    assert "a.csv: no such file" in str(caught.value)
    assert "b.csv: no such file" in str(caught.value)


def test_classes_are_needed_for_a_limit_per_class_and_for_stratifying(
    workspace: Workspace, rows: Path
) -> None:
    with pytest.raises(ConfigError, match="limit_per_class needs classes"):
        build(workspace, rows, config(labels="open", source={"limit_per_class": 3}))
    with pytest.raises(ConfigError, match="stratify is 'label'"):
        build(workspace, rows, config(labels="open", split={"stratify": "label"}))


def test_preference_pairs_do_not_mix_with_other_rows(workspace: Workspace, rows: Path) -> None:
    pairs = [{"prompt": f"question {i}", "chosen": "a", "rejected": "b"} for i in range(12)]
    pl.DataFrame(pairs).write_ndjson(rows / "pairs.jsonl")
    sources: list[dict[str, Any]] = [{"path": "rows.csv", "columns": TEXT}, {"path": "pairs.jsonl"}]
    with pytest.raises(ConfigError, match="mix preference pairs"):
        build(workspace, rows, parse_settings(DataConfig, {"sources": sources}, where="data"))
    version = build(workspace, rows, parse_settings(DataConfig, {"sources": sources[1:]}, where="data"))
    assert version.preference
    assert version.labels is None
    assert everything(workspace, version)["test"][0].rejected == "b"


@pytest.mark.parametrize("seed", range(5))
def test_rows_made_from_feedback_never_reach_a_held_out_split(
    workspace: Workspace, tmp_path: Path, seed: int
) -> None:
    lines = []
    for i, (question, answer) in enumerate(questions(40)):
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        hint = {"metadata": {"split_hint": "train", "held_out": False, "request_id": f"r{i}"}}
        lines.append(json.dumps({"messages": turns, **(hint if i % 3 == 0 else {})}))
    (tmp_path / "chat.jsonl").write_text("\n".join(lines), encoding="utf-8")
    wanted = parse_settings(
        DataConfig,
        {"sources": [{"path": "chat.jsonl"}], "split": {"test": 12, "validation": 8, "seed": seed}},
        where="data",
    )
    split = everything(workspace, build(workspace, tmp_path, wanted))
    fed_back = [e for e in split["train"] if e.metadata.get("split_hint") == "train"]
    assert len(fed_back) == 14
    assert (len(split["test"]), len(split["validation"])) == (12, 8)


def test_what_a_recipe_masks_or_drops_rows_for_is_in_no_record_of_a_dropped_row(
    workspace: Workspace, rows: Path
) -> None:
    long = "word " * 395
    with (rows / "rows.csv").open("a") as stream:
        stream.write("Call me at bob@ex.org please,card\nMy card 4111 1111 1111 1111,card\n")
        stream.write(f'"{long} eve@ex.org",\n')
    lines = [{"text": f"q {i} {t}", "category": c} for i, (t, c) in enumerate(questions(20))]
    lines.append({"text": "odd", "category": {"mail": "bob@ex.org", "card": "4111 1111 1111 1111"}})  # type: ignore[dict-item]
    (rows / "more.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"x": "ann@ex.org"\n'
    )
    sources = [{"path": p, "columns": TEXT} for p in ("rows.csv", "more.jsonl")]
    clean = {"pii_policy": {"EMAIL_ADDRESS": "drop"}}
    settings = parse_settings(DataConfig, {"sources": sources, "clean": clean}, where="data")
    dropped = read_dropped(workspace.artifacts.path("datasets", build(workspace, rows, settings).id))
    assert Counter(d.reason for d in dropped) >= Counter(personal_data=1, bad_row=2, empty_output=1)
    told = " ".join(d.text + d.detail for d in dropped)
    assert "ex.org" not in told
    assert "4111" not in told
    assert max(len(d.text) for d in dropped) <= 2000


def test_half_a_surrogate_pair_in_a_group_or_beside_it_is_a_bad_row(workspace: Workspace, rows: Path) -> None:
    lines = [{"text": t, "category": c, "who": str(i)} for i, (t, c) in enumerate(questions(40))]
    lines += [{"text": "one more", "category": "card", "who": "x\ud83d"}]
    (rows / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for columns in ({"group": "who"}, {"metadata": ["who"]}):
        settings = config("rows.jsonl", source={"columns": {**TEXT, **columns}})
        version = build(workspace, rows, settings)
        assert version.dropped["bad_row"] == 1


def test_the_mapping_lies_beside_the_recipe_and_is_no_part_of_the_version(
    workspace: Workspace, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fernet = pytest.importorskip("cryptography.fernet")
    monkeypatch.setenv("TUNERY_PII_KEY", fernet.Fernet.generate_key().decode())
    with (rows / "rows.csv").open("a") as stream:
        stream.write("Mail me at a@b.org,card\n")
    made = build(workspace, rows, config(clean={"pii_mapping": "maps/a.enc"}))
    assert (rows / "maps" / "a.enc").is_file()
    assert build(workspace, rows, config(clean={"pii_mapping": "b.enc"})).id == made.id
