"""Diff: what happened to each row between two versions, checked against what was done to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunery.core.config import parse_settings
from tunery.core.dataset import DatasetVersion
from tunery.core.finding import Edit
from tunery.data.build import build_dataset
from tunery.data.config import DataConfig
from tunery.data.edits.sets import store_edits
from tunery.data.version.diff import DatasetDiff, diff_versions
from tunery.store.dataset_files import read_columns
from tunery.store.workspace import Workspace

TOPICS = ["card", "transfer", "refund", "passcode"]


def question(i: int) -> tuple[str, str]:
    return f"{chr(97 + i % 26) * 4} {i * 7919} about my {TOPICS[i % 4]}", TOPICS[i % 4]


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = ["text,category", *(f"{q},{a}" for q, a in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def build(workspace: Workspace, folder: Path, *paths: str, **settings: Any) -> DatasetVersion:
    sources = [{"path": p, "columns": {"input": "text", "output": "category"}} for p in paths or ("a.csv",)]
    config = parse_settings(
        DataConfig, {"sources": sources, "split": {"test": 8, "validation": 4}, **settings}, where="data"
    )
    return build_dataset(config, workspace, name="d", base_dir=folder)


def differ(workspace: Workspace, a: DatasetVersion, b: DatasetVersion) -> DatasetDiff:
    one, other = (workspace.artifacts.path("datasets", v.id) for v in (a, b))
    return diff_versions(a, b, (one, other))


def counts(found: DatasetDiff) -> dict[str, dict[str, int]]:
    return {
        name: {r.reason: r.rows for r in getattr(found, name)}
        for name in ("came", "went", "changed", "moved")
    }


@pytest.fixture
def rows(tmp_path: Path) -> list[tuple[str, str]]:
    made = [question(i) for i in range(60)]
    write(tmp_path / "a.csv", made)
    return made


def test_a_version_does_not_differ_from_itself(workspace: Workspace, tmp_path: Path, rows: Any) -> None:
    a = build(workspace, tmp_path)
    found = differ(workspace, a, a)
    assert found.same == a.rows_kept == 60
    assert not any(counts(found).values())
    assert found.settings == ()


def test_edits_say_which_rows_they_took_and_changed(workspace: Workspace, tmp_path: Path, rows: Any) -> None:
    a = build(workspace, tmp_path)
    ids = read_columns(workspace.artifacts.path("datasets", a.id)).ids
    asked = [
        Edit(row=ids[3], action="drop", reason="contradiction"),
        Edit(row=ids[7], action="set_output", value="refund", reason="review", by="Ada"),
    ]
    stored = store_edits(workspace, asked, a.id)
    b = build(workspace, tmp_path, edits=[stored.name])
    assert b.parents == (a.id,)
    assert b.id != a.id
    found = differ(workspace, a, b)
    assert counts(found)["went"] == {"contradiction": 1}
    assert counts(found)["changed"] == {"review": 1}
    assert counts(found)["came"] == {}
    (gone,), (changed,) = found.went[0].examples, found.changed[0].examples
    assert gone.where == "row 4 of a.csv"
    assert gone.detail == f"taken out by fix in {stored.name}"
    assert changed.detail.startswith(f"set_output by Ada in {stored.name}")
    assert changed.before is not None
    assert changed.before.endswith("→ passcode")
    assert changed.after is not None
    assert changed.after.endswith("→ refund")
    assert found.same + sum(counts(found)["moved"].values()) == 58
    assert found.settings == (f"edits: [] -> ['{stored.name}']",)


def test_a_stricter_setting_says_its_drop_reason_and_a_looser_one_what_it_undid(
    workspace: Workspace, tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    write(tmp_path / "a.csv", [*rows, ("hi", "card")])
    a = build(workspace, tmp_path)
    b = build(workspace, tmp_path, filters={"length": {"min_input_chars": 5}})
    assert counts(differ(workspace, a, b))["went"] == {"input_too_short": 1}
    back = differ(workspace, b, a)
    assert counts(back)["came"] == {"no_longer_input_too_short": 1}
    assert back.settings == ("filters.length.min_input_chars: 5 -> 1",)


def test_a_new_file_and_a_grown_file_are_told_apart(
    workspace: Workspace, tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    a = build(workspace, tmp_path)
    write(tmp_path / "b.csv", [question(i) for i in range(100, 110)])
    b = build(workspace, tmp_path, "a.csv", "b.csv")
    assert counts(differ(workspace, a, b))["came"] == {"new_source": 10}
    assert counts(differ(workspace, b, a))["went"] == {"source_removed": 10}
    write(tmp_path / "a.csv", [*rows, question(200), question(201)])
    c = build(workspace, tmp_path)
    assert counts(differ(workspace, a, c))["came"] == {"new_row": 2}
    assert counts(differ(workspace, c, a))["went"] == {"row_removed": 2}


def test_a_row_mended_in_the_file_is_one_row_that_changed(
    workspace: Workspace, tmp_path: Path, rows: list[tuple[str, str]]
) -> None:
    a = build(workspace, tmp_path)
    write(tmp_path / "a.csv", [*rows[:10], ("aaaa entirely new words here", "refund"), *rows[11:]])
    b = build(workspace, tmp_path)
    found = differ(workspace, a, b)
    assert counts(found)["changed"] == {"source_changed": 1}
    assert found.changed[0].examples[0].where == "row 11 of a.csv"


def test_another_seed_moves_rows_and_nothing_else(workspace: Workspace, tmp_path: Path, rows: Any) -> None:
    a = build(workspace, tmp_path)
    b = build(workspace, tmp_path, split={"test": 8, "validation": 4, "seed": 1})
    found = counts(differ(workspace, a, b))
    assert found["moved"]
    assert found["came"] == found["went"] == found["changed"] == {}
    assert all(" -> " in reason for reason in found["moved"])


def test_a_renamed_file_with_the_same_bytes_is_the_same_file(
    workspace: Workspace, tmp_path: Path, rows: Any
) -> None:
    a = build(workspace, tmp_path)
    (tmp_path / "a.csv").rename(tmp_path / "renamed.csv")
    b = build(workspace, tmp_path, "renamed.csv", filters={"length": {"min_input_chars": 2}})
    assert differ(workspace, a, b).same == 60


def test_rows_that_shifted_in_a_file_are_known_by_what_they_say(
    workspace: Workspace, tmp_path: Path, rows: Any
) -> None:
    write(tmp_path / "a.csv", [*rows[:51], rows[11], *rows[51:]])  # row 52 repeats row 12
    a = build(workspace, tmp_path)
    first, last = ("first of all", "card"), rows.pop()
    write(tmp_path / "a.csv", [first, *rows[:51], rows[11], *rows[51:]])
    b = build(workspace, tmp_path)
    found = counts(differ(workspace, a, b))
    assert (found["went"], found["came"]) == ({"row_removed": 1}, {"new_row": 1})
    write(tmp_path / "a.csv", [first, *rows, last])
    stricter = build(workspace, tmp_path, filters={"length": {"min_input_chars": 13}})
    assert counts(differ(workspace, b, stricter))["went"] == {"input_too_short": 1}


def test_an_edit_that_is_no_longer_made_is_told(workspace: Workspace, tmp_path: Path, rows: Any) -> None:
    plain = build(workspace, tmp_path)
    row = read_columns(workspace.artifacts.path("datasets", plain.id)).ids[0]
    edits = store_edits(
        workspace, [Edit(row=row, action="set_output", value="other", reason="label_error")], plain.id
    )
    edited = build(workspace, tmp_path, edits=[edits.name])
    assert counts(differ(workspace, edited, plain))["changed"] == {"no_longer_label_error": 1}


def test_a_mended_prompt_stays_in_its_split(workspace: Workspace, tmp_path: Path, rows: Any) -> None:
    shares = {"test": 0.2, "validation": 0.2}
    before = build(workspace, tmp_path, split=shares)
    columns = read_columns(workspace.artifacts.path("datasets", before.id))
    edits = [
        Edit(row=row, action="set_input", value=f"<b>{prompt}</b> {i}", reason="html")
        for i, (row, prompt) in enumerate(list(zip(columns.ids, columns.prompts, strict=True))[::9])
    ]
    stored = store_edits(workspace, edits, before.id)
    after = build(workspace, tmp_path, split=shares, edits=[stored.name])
    (changed,) = differ(workspace, before, after).changed
    assert changed.rows == len(edits) > 5
    assert not any("moved" in e.detail for e in changed.examples)
    assert after.splits == before.splits
