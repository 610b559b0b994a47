"""Edits: rows taken out and changed by name, each one told, and versions named after what changed them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.config import parse_settings
from tunery.core.errors import ConfigError, NotFoundError
from tunery.core.example import Example, Message, example_id
from tunery.core.finding import Edit
from tunery.data.config import CleanConfig
from tunery.data.edits.apply import apply_all, apply_edits
from tunery.data.edits.sets import EditSet, load_edits, settle, store_edits
from tunery.store.workspace import Workspace


def example(question: str, answer: str, row: int = 1, rejected: str | None = None) -> Example:
    messages = (Message(role="user", content=question), Message(role="assistant", content=answer))
    identity = example_id(messages, rejected)
    return Example(
        id=identity,
        messages=messages,
        rejected=rejected,
        group=identity,
        metadata={"source": "rows.csv", "row": row},
    )


def drop(row: str, reason: str = "contradiction") -> Edit:
    return Edit(row=row, action="drop", reason=reason)


def answer(row: str, value: str, **more: Any) -> Edit:
    return Edit(row=row, action="set_output", value=value, reason=more.pop("reason", "label"), **more)


ROWS = [
    example("Where is my card?", "card", 1),
    example("where is my card", "card", 2),
    example("Where is my card?", "refund", 3),
    example("Refund me", "refund", 4),
]


def test_a_dropped_row_takes_its_repeats_along_with_reason_and_detail() -> None:
    edited = apply_edits(ROWS, [drop(ROWS[0].id)], name="edits-1")
    assert [e.metadata["row"] for e in edited.examples] == [3, 4]
    assert edited.stay == [2, 3]
    assert [(d.row, d.reason) for d in edited.dropped] == [(1, "contradiction"), (2, "contradiction")]
    assert edited.dropped[0].detail == "taken out by fix in edits-1"
    assert edited.dropped[1].detail.endswith(f"as it repeats {ROWS[0].id}")


def test_a_changed_answer_is_listed_with_both_texts_and_gets_the_id_of_its_content() -> None:
    edited = apply_edits(ROWS, [answer(ROWS[3].id, "card", by="Ada")])
    assert edited.examples[3] == example("Refund me", "card", 4)
    (change,) = edited.changed
    assert (change.before, change.after, change.by, change.row) == ("refund", "card", "Ada", 4)
    assert change.id == ROWS[3].id
    assert change.became == example("Refund me", "card").id


def test_the_last_user_turn_and_the_rejected_answer_can_be_changed_together() -> None:
    row = example("Hi", "good", 1, rejected="bad")
    edits = [
        Edit(row=row.id, action="set_input", value="Hello", reason="typo"),
        Edit(row=row.id, action="set_rejected", value="worse", reason="weak_pair"),
    ]
    edited = apply_edits([row], edits)
    assert edited.examples == [example("Hello", "good", 1, rejected="worse")]
    assert {(c.action, c.before, c.after) for c in edited.changed} == {
        ("set_input", "Hi", "Hello"),
        ("set_rejected", "bad", "worse"),
    }


def test_where_repeats_are_kept_an_edit_holds_for_the_row_it_names_alone() -> None:
    twins = [example("a", "x", 1), example("a", "x", 2), example("a", "x", 3)]
    edited = apply_edits(twins, [drop(f"{twins[0].id}-2")], with_repeats=False)
    assert [e.metadata["row"] for e in edited.examples] == [1, 3]


def test_edits_of_rows_that_are_not_there_are_refused_with_all_their_ids() -> None:
    with pytest.raises(ConfigError, match="2 rows that are not in the data: ex-none, ex-nowhere"):
        apply_edits(ROWS, [drop("ex-none"), drop(ROWS[0].id), drop("ex-nowhere")])


def test_a_row_without_a_rejected_answer_cannot_have_it_changed() -> None:
    with pytest.raises(ConfigError, match="no preference pair"):
        apply_edits(ROWS, [Edit(row=ROWS[0].id, action="set_rejected", value="x", reason="r")])


def test_dropping_beats_changing_and_is_told() -> None:
    settled = settle([answer("ex-1", "b"), drop("ex-1"), drop("ex-1"), answer("ex-2", "c")])
    assert [(e.row, e.action) for e in settled.edits] == [("ex-1", "drop"), ("ex-2", "set_output")]
    assert [e.value for e in settled.overruled] == ["b"]


def test_two_values_for_one_text_are_refused() -> None:
    with pytest.raises(ConfigError, match="ex-1: set_output is 'b' for label and 'c' for spelling"):
        settle([answer("ex-1", "b"), answer("ex-1", "c", reason="spelling")])


def test_new_texts_are_cleaned_like_every_other() -> None:
    edits = EditSet("e", "e", (answer(ROWS[3].id, "  mail me at ada@example.com "),))
    edited = apply_all(ROWS, [edits], CleanConfig())
    assert edited.examples[3].reference == "  mail me at <EMAIL_ADDRESS> "
    assert edited.changed[0].after == "  mail me at <EMAIL_ADDRESS> "


def test_a_second_set_names_rows_as_the_first_left_them() -> None:
    first = EditSet("one", "one", (answer(ROWS[3].id, "card"),))
    second = EditSet("two", "two", (drop(example("Refund me", "card").id),))
    edited = apply_all(ROWS, [first, second], CleanConfig())
    assert edited.stay == [0, 1, 2]
    assert [d.detail for d in edited.dropped] == ["taken out by fix in two"]
    with pytest.raises(ConfigError, match=r"two names a row that is not in the data"):
        apply_all(ROWS, [second], CleanConfig())


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xy")), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.sets(st.integers(0, 11)),
)
def test_every_row_is_kept_or_dropped_and_every_difference_is_listed(
    cells: list[tuple[str, str]], gone: set[int], changed: set[int]
) -> None:
    rows = [example(q, a, n) for n, (q, a) in enumerate(cells, 1)]
    asked = [drop(rows[i].id) for i in gone if i < len(rows)]
    asked += [answer(rows[i].id, "z") for i in changed if i < len(rows)]
    edited = apply_edits(rows, settle(asked).edits)
    left = [e.metadata["row"] for e in edited.examples] + [d.row for d in edited.dropped]
    assert sorted(left) == [r.metadata["row"] for r in rows]
    differing = {e.metadata["row"] for i, e in zip(edited.stay, edited.examples, strict=True) if e != rows[i]}
    assert differing == {c.row for c in edited.changed}
    assert not {e.id for e in edited.examples} & {rows[i].id for i in gone if i < len(rows)}


def test_an_artifact_is_named_after_its_edits_and_their_version(workspace: Workspace) -> None:
    edits = [answer("ex-1", "b"), drop("ex-2")]
    stored = store_edits(workspace, edits, "ds-0123456789abcdef")
    assert store_edits(workspace, edits[::-1], "ds-0123456789abcdef").name == stored.name
    assert store_edits(workspace, edits, "ds-fedcba9876543210").name != stored.name
    assert store_edits(workspace, edits[:1], "ds-0123456789abcdef").name != stored.name
    (read,) = load_edits([stored.name], workspace, Path())
    assert read == stored
    assert not workspace.artifacts.damage("edits", stored.name)


def test_edits_come_from_a_file_too(workspace: Workspace, tmp_path: Path) -> None:
    lines = [
        json.dumps(drop("ex-2").model_dump()),
        "",
        json.dumps({"row": "ex-1", "action": "drop", "reason": "x"}),
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (read,) = load_edits(["mine.jsonl"], workspace, tmp_path)
    assert [(e.row, e.by) for e in read.edits] == [("ex-2", "fix"), ("ex-1", "fix")]
    assert read.dataset is None


def test_lines_that_are_no_edits_are_told_all_at_once(workspace: Workspace, tmp_path: Path) -> None:
    lines = [
        "{",
        '{"row": "ex-1", "action": "delete", "reason": "x"}',
        '{"row": "ex-1", "action": "drop", "value": "v", "reason": "x"}',
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_edits(["mine.jsonl"], workspace, tmp_path)
    assert "line 1: not JSON" in caught.value.message
    assert "line 2: action" in caught.value.message
    assert "line 3: edit: action drop takes no value" in caught.value.message


def test_a_reference_to_nothing_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_edits(["edits-0123456789abcdef"], workspace, tmp_path)
    with pytest.raises(ConfigError, match="neither an edits artifact"):
        load_edits(["gone.jsonl"], workspace, tmp_path)


def test_the_setting_is_a_list_of_references() -> None:
    from tunery.data.config import DataConfig

    config = parse_settings(DataConfig, {"sources": [{"path": "a.csv"}], "edits": ["edits-1"]}, where="data")
    assert config.edits == ("edits-1",)
