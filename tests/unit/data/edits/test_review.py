"""The review sheet: what a domain expert sees, and what their decisions become."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.core.columns import Columns
from tunery.core.errors import ConfigError
from tunery.core.finding import Edit, Evidence, Finding
from tunery.data.edits.review import HEADER, export_review, import_review
from tunery.store.spreadsheet import escaped, unescaped

PROMPTS = ["Where is my card?", '=HYPERLINK("http://x")', "Refund\nme; please", "Top up"]
ANSWERS = ["card", "-refund", "refund", "top up"]
TEXTS = st.text(st.one_of(st.sampled_from("'=+-@\t\n;,\"a"), st.characters(exclude_categories=["Cs", "Cc"])))


def columns(prompts: list[str] = PROMPTS, answers: list[str] = ANSWERS) -> Columns:
    n = len(prompts)
    return Columns(
        ids=[f"ex-{i}" for i in range(n)],
        prompts=prompts,
        answers=answers,
        rejected=[None] * n,
        labels=answers,
        splits=["train"] * n,
        groups=[f"ex-{i}" for i in range(n)],
        sources=["rows.csv"] * n,
        rows=list(range(1, n + 1)),
    )


FINDINGS = (
    Finding(
        kind="odd_length",
        severity="low",
        message="One row is odd.",
        rows=("ex-3", "ex-1"),
        fix="Look at it.",
    ),
    Finding(
        kind="label_error",
        severity="high",
        message="Two rows look wrong.",
        rows=("ex-1", "ex-2"),
        evidence=(Evidence(rows=("ex-1",), text="x", detail="its neighbours are all card"),),
        fix="Correct the label.",
        edits=(
            Edit(row="ex-1", action="set_output", value="card", reason="label_error"),
            Edit(row="ex-2", action="drop", reason="label_error"),
        ),
    ),
)


def sheet(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def fill(
    path: Path, decisions: dict[str, tuple[str, str]], *, delimiter: str = ",", end: str = "\r\n"
) -> None:
    rows = sheet(path)
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER, delimiter=delimiter, lineterminator=end)
        writer.writeheader()
        for row in rows:
            row["decision"], row["new_output"] = decisions.get(row["id"], ("", ""))
            writer.writerow(row)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "review.csv"
    assert export_review(path, columns(), FINDINGS) == 3
    return path


def test_a_row_has_one_line_with_all_its_problems_the_serious_first(written: Path) -> None:
    rows = sheet(written)
    assert [r["id"] for r in rows] == ["ex-1", "ex-2", "ex-3"]
    assert rows[0]["problem"] == "label error: its neighbours are all card; odd length: Look at it."
    assert [r["suggestion"] for r in rows] == ["answer: card", "drop", ""]
    assert rows[0]["input"] == "'" + PROMPTS[1]
    assert list(rows[0]) == list(HEADER)


def test_only_the_kinds_asked_for_are_written(tmp_path: Path) -> None:
    assert export_review(tmp_path / "r.csv", columns(), FINDINGS, kinds=["odd_length"]) == 2
    with pytest.raises(ConfigError, match="nothing to review"):
        export_review(tmp_path / "r.csv", columns(), FINDINGS, kinds=["other"])


def test_decisions_become_edits_in_the_reviewers_name(written: Path) -> None:
    fill(written, {"ex-1": ("Change", "top up"), "ex-2": (" drop ", ""), "ex-3": ("keep", "")})
    review = import_review(written, columns(), reviewer="Ada")
    assert [(e.row, e.action, e.value, e.by, e.reason) for e in review.edits] == [
        ("ex-1", "set_output", "top up", "Ada", "review"),
        ("ex-2", "drop", None, "Ada", "review"),
    ]
    assert (review.kept, review.undecided, review.warnings) == (1, 0, ())


def test_a_change_without_an_answer_takes_the_suggested_one(written: Path) -> None:
    fill(written, {"ex-1": ("change", "")})
    review = import_review(written, columns(), reviewer="Ada")
    assert [(e.row, e.value) for e in review.edits] == [("ex-1", "card")]
    assert review.undecided == 2


@pytest.mark.parametrize(("delimiter", "end"), [(";", "\r\n"), ("\t", "\n"), (",", "\n")])
def test_what_excel_makes_of_the_file_is_accepted(written: Path, delimiter: str, end: str) -> None:
    fill(written, {"ex-2": ("change", "a; b\r\nc")}, delimiter=delimiter, end=end)
    (edit,) = import_review(written, columns(), reviewer="Ada").edits
    assert (edit.row, edit.value) == ("ex-2", "a; b\r\nc")


@pytest.mark.parametrize("said", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;;"])
def test_rows_cut_short_and_a_separator_line_are_accepted(tmp_path: Path, said: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f"{said}\r\nid;decision;new_output;note\r\nex-1;drop\r\n;;;\r\nex-2;keep;;why;;\r\n")
    review = import_review(path, columns(), reviewer="Ada")
    assert [e.row for e in review.edits] == ["ex-1"]
    assert review.notes == {"ex-2": "why"}


def test_everything_wrong_is_told_at_once_with_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(
        "id,decision,new_output\nex-0,dropp,\nex-9,drop,\nex-1,change,\nex-2,,new\nex-3,drop,\nex-3,keep,\n"
    )
    with pytest.raises(ConfigError) as caught:
        import_review(path, columns(), reviewer="Ada")
    said = caught.value.message
    assert "row 2: decision 'dropp' is none of keep, drop, change; did you mean 'drop'?" in said
    assert "row 3: no example 'ex-9'" in said
    assert "row 4: decision 'change' needs a new_output" in said
    assert "row 5: new_output is given" in said
    assert "row 7: ex-3 was decided otherwise in row 6" in said


def test_missing_columns_and_files_and_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("id,comment\nex-0,x\n")
    with pytest.raises(ConfigError, match="no column 'decision', 'new_output'"):
        import_review(path, columns(), reviewer="Ada")
    with pytest.raises(ConfigError, match="no such file"):
        import_review(tmp_path / "gone.csv", columns(), reviewer="Ada")
    with pytest.raises(ConfigError, match="--reviewer"):
        import_review(path, columns(), reviewer=" ")


def test_an_edited_output_column_and_a_new_class_are_warned_of(written: Path) -> None:
    rows = sheet(written)
    with written.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER)
        writer.writeheader()
        rows[0]["output"] = "card"
        rows[1]["decision"], rows[1]["new_output"] = "change", "refnd"
        writer.writerows(rows)
    review = import_review(written, columns(), reviewer="Ada", labels=("card", "refund"))
    assert review.warnings == (
        "row 2: the output column was edited; only new_output is read",
        "the new answer 'refnd' is none of the 2 classes; did you mean 'refund'?",
    )


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS.filter(str.strip)), min_size=1, max_size=4))
def test_any_text_survives_the_way_to_a_spreadsheet_and_back(tmp_path_factory, cells) -> None:  # type: ignore[no-untyped-def]
    data = columns([c[0] for c in cells], [c[1] for c in cells])
    finding = Finding(kind="k", severity="low", message="m", rows=tuple(data.ids), fix="f")
    path = tmp_path_factory.mktemp("review") / "r.csv"
    export_review(path, data, [finding])
    rows = sheet(path)
    assert [(unescaped(r["input"]), unescaped(r["output"])) for r in rows] == [c[:2] for c in cells]
    fill(path, {i: ("change", escaped(c[2])) for i, c in zip(data.ids, cells, strict=True)})
    review = import_review(path, data, reviewer="Ada")
    assert [e.value for e in review.edits] == [c[2] for c in cells]


@pytest.mark.parametrize(
    "edits",
    [
        [("set_output", "card"), ("drop", None)],
        [("set_output", "card"), ("set_input", "Where?")],
        [("set_output", "long " * 10_000)],
    ],
)
def test_a_suggestion_that_is_cut_or_one_of_several_is_never_taken_for_the_answer(
    tmp_path: Path, edits: list[tuple[str, str | None]]
) -> None:
    asked = tuple(Edit(row="ex-1", action=a, value=v, reason="x") for a, v in edits)  # type: ignore[arg-type]
    finding = Finding(kind="x", severity="low", message="m", rows=("ex-1",), fix="f", edits=asked)
    export_review(tmp_path / "r.csv", columns(), [finding])
    fill(tmp_path / "r.csv", {"ex-1": ("change", "")})
    with pytest.raises(ConfigError, match="needs a new_output"):
        import_review(tmp_path / "r.csv", columns(), reviewer="Ada")
