"""``tunery data`` as typed: inspect, fix, review, compare, card and export, on a real recipe."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_cli import Tunery, home, tunery
from tunery.core.example import Message
from tunery.core.rollout import RequestRecord
from tunery.store.workspace import Workspace

__all__ = ["home", "tunery"]

TOPICS = ["card", "transfer", "refund"]
RECIPE = """\
name: bank
goal: {{metric: exact_match}}
base: {base}
data:
  sources:
    - path: rows.csv
      license: CC0-1.0
      columns: {{input: text, output: category}}
  split: {{test: 6, validation: 6}}
"""
CLASHES = [
    ("when does my new card come to me", "card"),
    ("When does my new card come to me?", "card"),
    ("WHEN does my new card come to me", "card"),
    ("when does my new card come to me.", "refund"),
]


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> Path:
    rows = [
        (f"{chr(97 + i % 26) * 4} {i * 7919} what about my {TOPICS[i % 3]}", TOPICS[i % 3]) for i in range(60)
    ]
    rows += [("my card isnâ€™t here, whereâ€™s it gone", "card")]  # broken by a wrong decoding
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "category"), *rows, *CLASHES])
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(base=tiny_model), encoding="utf-8")
    return path


def test_findings_are_printed_stored_and_shown(tunery: Tunery, recipe: Path, home: Path) -> None:
    called = tunery("data", "inspect", recipe, "--json")
    assert called.code == 0, called
    kinds = {f["kind"]: f for f in called.json["findings"]}
    assert kinds["contradiction"]["severity"] == "high"
    page = Path(called.json["page"]).read_text(encoding="utf-8")
    assert "Repair it first" in page
    assert "AKIAIOSFODNN7EXAMPLE" not in page.split('id="data"')[0]
    assert (home / "inspections" / called.json["inspection"] / "findings.json").is_file()
    told = tunery("data", "inspect", recipe)
    assert called.json["inspection"] in told.out
    assert "contradiction" in told.out
    assert "tunery data fix RECIPE --apply" in told.out
    assert "Inspecting" not in told.out


def test_a_fix_ends_with_the_line_that_trains_on_it(tunery: Tunery, recipe: Path) -> None:
    found = tunery("data", "inspect", recipe, "--json").json
    told = tunery("data", "fix", recipe, "--apply", "mojibake")
    assert told.code == 0, told
    assert "row 61" in told.out
    assert "-> my card isn’t here, where’s it gone" in told.out
    last = told.out.strip().splitlines()[-1]
    assert last.startswith(f"tunery run {recipe} 'data.edits=[edits-")
    override = last.split("'")[1]
    made = tunery("data", "run", recipe, override, "--json").json
    assert made["parents"] == [found["dataset_version"]]
    as_json = tunery(
        "data", "fix", recipe, "--apply", "mojibake", "--inspection", found["inspection"], "--json"
    )
    assert as_json.json["after"]["id"] == made["id"]
    assert as_json.json["run"] == ["tunery", "run", str(recipe), override]


def test_a_review_goes_through_a_spreadsheet(tunery: Tunery, recipe: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "review.csv"
    out = tunery("data", "fix", recipe, "--export-review", sheet, "--kind", "contradiction")
    assert out.code == 0, out
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["decision"] = "drop" if row["output"] == "refund" else "keep"
    with sheet.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    read = tunery("data", "fix", recipe, "--import-review", sheet, "--reviewer", "Ada", "--json")
    assert read.code == 0, read
    assert read.json["asked"] == {"review": 1}
    assert read.json["after"]["dropped"]["review"] == 1
    assert read.json["review"]["kept"] == len(rows) - 1
    anonymous = tunery("data", "fix", recipe, "--import-review", sheet)
    assert anonymous.code == 2
    assert "--reviewer" in anonymous.err

    before, after = read.json["before"], read.json["after"]["id"]
    diff = tunery("data", "diff", before, after, "--json").json
    assert [(r["reason"], r["rows"]) for r in diff["went"]] == [("review", 1)]
    told = tunery("data", "diff", before, after).out
    assert "went: 1 review" in told
    assert "taken out by Ada in edits-" in told


def test_one_thing_at_a_time(tunery: Tunery, recipe: Path, tmp_path: Path) -> None:
    neither = tunery("data", "fix", recipe)
    both = tunery("data", "fix", recipe, "--apply", "x", "--export-review", tmp_path / "r.csv")
    assert neither.code == both.code == 2
    assert "--import-review" in neither.err
    unknown = tunery("data", "fix", recipe, "--apply", "contradicton")
    assert unknown.code == 3
    assert "did you mean 'contradiction'" in unknown.err


def test_a_version_has_its_card(tunery: Tunery, recipe: Path, home: Path) -> None:
    made = tunery("data", "run", recipe, "--json").json
    told = tunery("data", "card", made["id"])
    assert "CC0-1.0" in told.out
    assert told.out == (home / "datasets" / made["id"] / "card.md").read_text(encoding="utf-8")
    assert tunery("data", "card", made["id"], "--json").json["card"] == told.out
    assert tunery("data", "card", "ds-none").code == 3


@pytest.mark.parametrize("form", ["openai", "alpaca", "sharegpt", "hf", "csv"])
def test_a_version_is_exported(tunery: Tunery, recipe: Path, tmp_path: Path, form: str) -> None:
    made: dict[str, Any] = tunery("data", "run", recipe, "--json").json
    out = tmp_path / "out"
    called = tunery("data", "export", made["id"], "--format", form, "--out", out, "--json")
    assert called.code == 0, called
    assert called.json["rows"] == {s: n for s, n in made["splits"].items() if n}
    again = tunery("data", "export", made["id"], "--format", form, "--out", out)
    assert again.code == 4
    assert "there already" in again.err
    replaced = tunery("data", "export", made["id"], "--format", form, "--out", out, "--replace")
    assert "A recipe reads it again with:" in replaced.out


def test_traffic_becomes_rows_with_consent_alone(tunery: Tunery, home: Path, tmp_path: Path) -> None:
    workspace = Workspace.open(home)
    for i in range(1203):  # more than two pages
        workspace.requests.add(
            RequestRecord(
                id=f"chatcmpl-{i}",
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
                endpoint="bot",
                model=f"bot@{1 + i % 2}",
                subject=f"user {i % 40}",
                messages=(Message(role="user", content=f"Where is my card number {i}?"),),
                completion="card arrival",
                status="ok",
                metadata={"training_consent": "true"} if i % 3 else {},
            )
        )
    workspace.close()
    out = tmp_path / "traffic.jsonl"
    called = tunery("data", "collect", "--out", out, "--per-user", 1000, "--json")
    assert called.code == 0, called
    assert called.json["rows"] == sum(1 for i in range(1203) if i % 3)
    assert sum(called.json["skipped"].values()) == 401
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 802
    assert all(row["metadata"]["split_hint"] == "train" for row in rows)
    again = ("data", "collect", "--out", out, "--per-user", 2, "--json")
    assert tunery(*again).code == 4
    assert tunery(*again, "--model", "bot@9", "--replace").code == 3
    assert len(out.read_text().splitlines()) == 802
    capped = tunery(*again, "--model", "bot@1", "--replace")
    assert capped.json["rows"] == 2 * 20
    told = tunery("data", "collect", "--out", out, "--share", 1.5, "--replace")
    assert told.code == 2
    assert "share" in told.err


def test_rows_are_selected_by_their_scores_under_the_base(tunery: Tunery, recipe: Path) -> None:
    scored = tunery("data", "score", recipe, "--json")
    assert scored.code == 0, scored
    quality, rows = scored.json["quality"], scored.json["rows"]
    plain = tunery("data", "run", recipe, "data.select.rows=20", "--json").json
    by_score = ["data.select.rows=20", f"data.select.scores={quality}"]
    chosen = tunery("data", "run", recipe, *by_score, "--json").json
    assert plain["splits"]["train"] == chosen["splits"]["train"] == 20
    assert chosen["dropped"]["not_selected"] == rows - 20
    assert chosen["content_sha256"] != plain["content_sha256"]
    assert chosen["splits"]["test"] == plain["splits"]["test"]
    unknown = tunery("data", "run", recipe, by_score[0], "data.select.scores=quality-0123456789abcdef")
    assert unknown.code == 3
    assert "median difficulty" in tunery("data", "score", recipe, "data.select.rows=5").out


def test_benchmark_texts_and_long_rows_are_found(tunery: Tunery, recipe: Path, tmp_path: Path) -> None:
    seen = "which of these thirteen words in a row did the model see while it was trained on them"
    with (tmp_path / "rows.csv").open("a", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([(f"Tell me {seen} please", "card"), ("long " * 300, "refund")])
    (tmp_path / "exam.jsonl").write_text(json.dumps({"question": f"So, {seen}?", "choices": ["a", "b"]}))
    asked = [
        'inspect.references=["exam.jsonl"]',
        "data.max_tokens=null",
        "data.split.test=2",
        "data.split.validation=2",
    ]
    called = tunery("data", "inspect", recipe, *asked, "--json")
    assert called.code == 0, called
    kinds = {f["kind"]: f for f in called.json["findings"]}
    assert kinds["contamination"]["numbers"]["references"] == {"exam.jsonl": 1}
    assert len(kinds["too_long"]["rows"]) == 1
    missing = tunery("data", "inspect", recipe, 'inspect.references=["exams.jsonl"]')
    assert missing.code == 2
    assert "exams.jsonl" in missing.err
