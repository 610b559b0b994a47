"""Sheets out, opinions back: blind, shuffled, every wrong row named, ratings with intervals and agreement."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import krippendorff
import numpy as np
import pytest

from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.evaluate.predictions import PredictionRow
from tunery.review.cards import Card, ReviewPlan, plan_review
from tunery.review.config import ReviewConfig
from tunery.review.outcome import HumanReview, conclude, disagreements, labels_of_review
from tunery.review.pairwise import label_of
from tunery.review.sheets import read_sheets, sheet_of, write_sheets, write_third

NOW = datetime(2026, 11, 27, tzinfo=UTC)
NASTY = '=HYPERLINK("http://x")\r\nline two; with, every\tsign'


def rows(system: str, n: int = 12) -> list[PredictionRow]:
    return [
        PredictionRow(f"r{i}", f"{NASTY} {system} {i}" if i == 3 else f"{system} {i}", None, None, {})
        for i in range(n)
    ]


def plan(n: int = 12, **settings: object) -> ReviewPlan:
    prompts = {f"r{i}": (Message(role="user", content=f"question {i}"),) for i in range(n)}
    config = ReviewConfig.model_validate(settings)
    return plan_review({"base": rows("base", n), "tuned": rows("tuned", n)}, prompts, config)


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def fill(path: Path, say: Callable[[dict[str, str]], dict[str, str]], delimiter: str = ",") -> None:
    """Fill a sheet in and save it as a spreadsheet program would."""
    table = table_of(path)
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows({**row, **say(row)} for row in table)


def scored(*scores: int) -> dict[str, str]:
    names = ("accuracy", "relevance", "tone", "safety", "helpfulness")
    return dict(zip(names, map(str, scores * 5 if len(scores) == 1 else scores), strict=True))


def concluded(folder: Path) -> HumanReview:
    wanted, judgements = read_sheets(folder)
    return conclude(wanted, judgements, now=NOW)


def test_sheets_show_no_system_and_each_person_another_order(tmp_path: Path) -> None:
    one, other = write_sheets(plan(), tmp_path)
    tables = [table_of(one), table_of(other)]
    items = [[row["item"] for row in table] for table in tables]
    assert sorted(items[0]) == sorted(items[1])
    assert items[0] != items[1]
    assert len(items[0]) == 24
    assert list(tables[0][0]) == [
        "item", "prompt", "answer", "accuracy", "relevance", "tone", "safety", "helpfulness", "comment",
        "correction",
    ]  # fmt: skip
    whose = [row["answer"].split()[-2] for row in tables[0]]
    assert whose != sorted(whose)
    assert all(not item.isdigit() for item in items[0])


def test_answers_cannot_run_in_a_spreadsheet_and_come_back_as_they_were(tmp_path: Path) -> None:
    wanted = plan()
    write_sheets(wanted, tmp_path)
    table = table_of(sheet_of(tmp_path, 1))
    nasty = [row["answer"] for row in table if "HYPERLINK" in row["answer"]]
    assert len(nasty) == 2
    assert all(text.startswith("'=") for text in nasty)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("said", [False, True])
def test_ratings_come_back_from_any_spreadsheet(delimiter: str, said: bool, tmp_path: Path) -> None:
    write_sheets(plan(), tmp_path)
    for person in (1, 2):
        path = sheet_of(tmp_path, person)
        fill(path, lambda row: scored(4 if "tuned" in row["answer"] else 2), delimiter)
        if said:
            path.write_text(f"sep={delimiter}\n" + path.read_text(encoding="utf-8-sig"), encoding="utf-8")
    review = concluded(tmp_path)
    assert review.metrics["tuned"]["accuracy"].value == 4
    assert review.metrics["base"]["tone"].value == 2
    low, high = review.metrics["tuned"]["accuracy"].ci95
    assert 1 <= low < 4 < high <= 5
    assert review.agreement["accuracy"].value == 1
    assert review.disagreements == ()


def test_alpha_and_ratings_are_those_of_what_was_said(tmp_path: Path) -> None:
    wanted = plan()
    write_sheets(wanted, tmp_path)
    draw = np.random.default_rng(1)
    given: dict[int, dict[str, int]] = {}
    for person in (1, 2):
        given[person] = {card.id: int(draw.integers(1, 6)) for card in wanted.cards}
        fill(sheet_of(tmp_path, person), lambda row, p=person: scored(given[p][row["item"]]))  # type: ignore[misc]
    review = concluded(tmp_path)
    table = [[given[p][card.id] for card in wanted.cards] for p in (1, 2)]
    alpha = krippendorff.alpha(
        reliability_data=table, level_of_measurement="ordinal", value_domain=range(1, 6)
    )
    assert review.agreement["tone"].value == pytest.approx(alpha)
    of_tuned = [
        (given[1][card.id] + given[2][card.id]) / 2 for card in wanted.cards if card.systems == ("tuned",)
    ]
    assert review.metrics["tuned"]["tone"].value == pytest.approx(np.mean(of_tuned))
    apart = [card.id for card in wanted.cards if abs(given[1][card.id] - given[2][card.id]) >= 2]
    assert list(review.disagreements) == apart


def test_a_third_person_decides_where_two_are_apart(tmp_path: Path) -> None:
    wanted = plan()
    write_sheets(wanted, tmp_path)
    fill(sheet_of(tmp_path, 1), lambda row: scored(5))
    fill(sheet_of(tmp_path, 2), lambda row: scored(1 if row["answer"] == "tuned 5" else 5))
    before = concluded(tmp_path)
    _, judgements = read_sheets(tmp_path)
    (apart,) = disagreements(wanted, judgements)
    third = write_third(wanted, tmp_path, [apart])
    with pytest.raises(ConfigError, match=r"reviewer-3\.csv row 2: accuracy is missing"):
        read_sheets(tmp_path)
    fill(third, lambda row: scored(1))
    after = concluded(tmp_path)
    assert after.disagreements == ()
    assert before.metrics["tuned"]["tone"].value == pytest.approx((11 * 5 + 3) / 12)
    assert after.metrics["tuned"]["tone"].value == pytest.approx((11 * 5 + 1) / 12)
    assert after.agreement == before.agreement


def test_every_wrong_row_is_named(tmp_path: Path) -> None:
    wanted = plan()
    write_sheets(wanted, tmp_path)
    fill(sheet_of(tmp_path, 1), lambda row: scored(4))
    order = [card.id for card in wanted.order(2)]
    bad = {
        order[0]: {"tone": ""},
        order[1]: {"tone": "6"},
        order[2]: {"tone": "4.5"},
        order[3]: {"item": order[4]},
        order[5]: {"item": "c000"},
        order[6]: {"tone": "4,0"},
        order[7]: {"tone": " 4.0 "},
    }
    fill(sheet_of(tmp_path, 2), lambda row: {**scored(4), **bad.get(row["item"], {})})
    with pytest.raises(ConfigError) as caught:
        read_sheets(tmp_path)
    said = caught.value.message
    for problem in (
        "reviewer-2.csv row 2: tone is missing",
        "reviewer-2.csv row 3: tone is '6', not a whole number from 1 to 5",
        "reviewer-2.csv row 4: tone is '4.5'",
        f"reviewer-2.csv row 6: item {order[4]} was already judged on row 5",
        "reviewer-2.csv row 7: item 'c000' is not of this review",
        f"reviewer-2.csv: item {order[3]} is missing",
        f"reviewer-2.csv: item {order[5]} is missing",
    ):
        assert problem in said
    assert "7 problems" in said


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes("item;tone\nä".encode("cp1252")), "save the sheet as 'CSV UTF-8'"),
        (lambda path: path.write_text("item,tone\nc1,4\n"), "no column 'accuracy'"),
        (lambda path: path.write_text(""), "no column 'item'"),
    ],
)
def test_a_sheet_that_is_none_says_what_to_do(
    break_it: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    write_sheets(plan(), tmp_path)
    break_it(sheet_of(tmp_path, 1))
    with pytest.raises(ConfigError) as caught:
        read_sheets(tmp_path)
    assert says in str(caught.value)


def test_pairs_are_blind_and_count_for_the_right_system(tmp_path: Path) -> None:
    wanted = plan(pairwise=True, n=20)
    assert {card.systems for card in wanted.cards} == {("base", "tuned"), ("tuned", "base")}
    write_sheets(wanted, tmp_path)

    def likes_tuned(row: dict[str, str]) -> dict[str, str]:
        number = int(row["prompt"].split()[-1])
        side = "1" if "tuned" in row["answer 1"] else "2"
        return {"preferred": "tie" if number < 5 else side}

    for person in (1, 2):
        fill(sheet_of(tmp_path, person), likes_tuned)
    review = concluded(tmp_path)
    assert review.metrics["tuned"]["win_rate"].value == pytest.approx(17.5 / 20)
    assert review.metrics["base"]["win_rate"].value == pytest.approx(2.5 / 20)
    assert review.agreement["win_rate"].value == 1
    read, judgements = read_sheets(tmp_path)
    labels = [label_of(*label) for label in labels_of_review(read, judgements).values()]
    assert sorted(said for _, said in labels) == ["b"] * 15 + ["tie"] * 5  # 'base …' sorts before 'tuned …'


def test_a_folder_holds_one_review_and_filled_sheets_are_never_written_over(tmp_path: Path) -> None:
    write_sheets(plan(), tmp_path)
    fill(sheet_of(tmp_path, 1), lambda row: scored(3))
    filled = sheet_of(tmp_path, 1).read_bytes()
    write_sheets(plan(), tmp_path)
    assert sheet_of(tmp_path, 1).read_bytes() == filled
    with pytest.raises(ConfigError, match="another review"):
        write_sheets(plan(seed=1), tmp_path)


def test_rows_are_those_that_all_systems_answered_and_asked(tmp_path: Path) -> None:
    prompts = {f"r{i}": (Message(role="user", content="q"),) for i in range(3)}
    some = plan_review({"a": rows("a", 12)[:3], "b": rows("b", 12)}, prompts, ReviewConfig())
    assert {card.row for card in some.cards} == {"r0", "r1", "r2"}
    with pytest.raises(ConfigError, match="what was asked in 9 rows"):
        plan_review({"a": rows("a"), "b": rows("b")}, prompts, ReviewConfig())
    with pytest.raises(ConfigError, match="pairs are of two systems"):
        plan_review({"a": rows("a")}, prompts, ReviewConfig(pairwise=True))
    assert len({isinstance(card, Card) and card.row for card in plan(limit=5).cards}) == 5


@pytest.mark.parametrize("name", ["Tone", "item", "comment", "win_rate", "a b", ""])
def test_a_criterion_needs_a_name_that_a_column_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a criterion"):
        ReviewConfig(criteria={name: "x"})
