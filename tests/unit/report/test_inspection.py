"""The inspection page: complete in itself, true to its findings, closed to what rows hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.unit.report.page_reader import Page, read_page, words
from tunery.core.columns import Columns
from tunery.core.dataset import DatasetVersion, SourceFile
from tunery.core.example import Dropped
from tunery.core.finding import Edit, Evidence, Finding
from tunery.inspect.detectors import finding_kinds
from tunery.report.inspection import InspectionInputs, render_inspection, write_inspection

LABELS = ("card", "refund")
EVIL = "<script>alert(1)</script>"


def columns(count: int = 40, *, closed: bool = True) -> Columns:
    labels = [LABELS[i % 2] if closed else None for i in range(count)]
    groups = [f"g{max(0, i - 2)}" for i in range(count)]
    return Columns(
        ids=[f"ex-{i}" for i in range(count)],
        prompts=[f"{EVIL} question {i} " + "x" * (i * 3) for i in range(count)],
        answers=[LABELS[i % 2] if closed else f"answer {i}" * (i + 1) for i in range(count)],
        rejected=[None] * count,
        labels=labels,
        splits=["test" if i % 5 == 0 else "train" for i in range(count)],
        groups=groups,
        sources=["rows.csv"] * count,
        rows=list(range(1, count + 1)),
    )


def version(data: Columns) -> DatasetVersion:
    return DatasetVersion(
        id="ds-0123456789abcdef",
        name="bank",
        content_sha256="ab" * 32,
        created_at=datetime(2026, 11, 23, tzinfo=UTC),
        sources=(SourceFile(path="rows.csv", sha256="cd" * 32, rows=50, shape="columns"),),
        config={},
        rows_read=50,
        rows_kept=len(data),
        dropped={"exact_duplicate": 10},
        masked={},
        splits={"train": 32, "validation": 0, "test": 8},
        labels=LABELS if data.labels[0] else None,
    )


def high(**changes: Any) -> Finding:
    fields: dict[str, Any] = {
        "kind": "label_error",
        "severity": "high",
        "message": "4 rows carry the wrong class.",
        "rows": ("ex-0", "ex-1", "ex-2", "ex-3"),
        "evidence": (Evidence(rows=("ex-1",), text=EVIL, detail="its neighbours are card"),),
        "fix": "Correct them.",
        "edits": (
            Edit(row="ex-1", action="set_output", value="card", reason="label_error"),
            Edit(row="ex-3", action="drop", reason="label_error"),
        ),
    }
    return Finding(**{**fields, **changes})


MEDIUM = Finding(kind="imbalance", severity="medium", message="Classes differ.", fix="Add rows.")


def render(*findings: Finding, closed: bool = True, count: int = 40) -> Page:
    data = columns(count, closed=closed)
    dropped = [Dropped(source="rows.csv", row=9, reason="exact_duplicate", detail="repeats row 1", text="{}")]
    inputs = InspectionInputs("inspection-1", version(data), data, findings, finding_kinds(), dropped)
    html = render_inspection(inputs)
    assert "<script" not in html
    assert not re.search(r"(?:src|href)=\"(?!#)", html), "nothing is fetched"
    page = read_page(html)
    ids = [e.attributes["id"] for e in page.elements() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for link in page.root.all("a"):
        assert str(link.attributes["href"]).removeprefix("#") in ids
    return page


def test_a_serious_finding_is_the_verdict_with_what_to_type() -> None:
    verdict = words(render(high(), MEDIUM).section("verdict").text)
    assert "Repair it first: 1 serious finding in 4 rows (10.0 %): label error." in verdict
    assert "--apply" not in verdict, "a guess at a label is for a person to accept"
    assert "--export-review review.csv" in verdict
    secret = words(render(high(kind="secret")).section("verdict").text)
    assert "tunery data fix RECIPE --apply secret" in secret


def test_without_serious_findings_the_verdict_is_milder() -> None:
    assert "Usable, with flaws" in render(MEDIUM).section("verdict").text
    low = MEDIUM.with_(severity="low")
    assert "Good to train on" in render(low).section("verdict").text
    assert "no detector found anything" in render().section("verdict").text


def test_each_finding_shows_its_cases_and_what_its_edits_would_do() -> None:
    page = render(high(), MEDIUM)
    finding = words(page.root.one("div", id="f-label-error").text)
    assert "4 rows carry the wrong class." in finding
    assert "Its edits would correct the answer of 1 row and take out 1 row." in finding
    assert "row 2 of rows.csv, train" in finding
    assert EVIL in finding
    assert "--export-review review.csv --kind label_error" in finding
    assert "--apply" not in page.root.one("div", id="f-imbalance").text


def test_suggested_classes_are_reported_as_confusions_else_look_alikes_that_differ() -> None:
    suggested = words(render(high()).section("confusions").text)
    assert "refund card 1" in suggested
    alike = words(render().section("confusions").text)
    assert "card refund 1" in alike


def test_classes_and_look_alikes_are_counted() -> None:
    page = render()
    assert "card 20 16 0 4" in words(page.section("classes").text)
    assert "3 rows, 2 different answers ! they disagree" in words(page.section("groups").text)
    written = words(render(closed=False).section("groups").text)
    assert "3 rows, 3 different answers" in written
    assert "they disagree" not in written, "free text that differs need not disagree"


def test_rows_with_secrets_are_not_shown_among_look_alikes() -> None:
    secret = MEDIUM.with_(kind="secret", rows=("ex-1",))
    assert not render(secret).root.all("section", id="groups")


def test_lengths_are_drawn_and_said() -> None:
    page = render(closed=False)
    assert len(page.section("lengths").all("svg")) == 2
    written = words(page.section("lengths").text)
    data = columns(closed=False)
    assert f"to {max(map(len, data.answers)):,} characters" in written
    assert not page.root.all("section", id="classes")
    assert len(render().section("lengths").all("svg")) == 1


def test_languages_are_shown_where_a_detector_told_them() -> None:
    mixed = MEDIUM.with_(kind="language_mix", numbers={"counts": {"English": 30, "German": 10}})
    assert "English 30 75.0 %" in words(render(mixed).section("languages").text)
    assert not render().root.all("section", id="languages")


def test_one_row_and_equal_lengths_are_drawn_too() -> None:
    assert render(count=1).section("lengths").all("svg")


def test_a_labelled_version_without_rows_has_a_page() -> None:
    empty = columns(0)
    inputs = InspectionInputs("inspection-1", version(columns(2)), empty, (), finding_kinds(), [])
    assert "none has a row" in read_page(render_inspection(inputs)).root.text


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    data = columns()
    path = tmp_path / "deep" / "page.html"
    write_inspection(InspectionInputs("inspection-1", version(data), data, [high()], {}, []), path)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
