"""People's ratings in whole runs: back into the gate, and never a held-out row into training."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

from tests.fixtures_cli import Tunery, home, tunery
from tests.pairs import pair_recipe

__all__ = ["home", "tunery"]
CARD = ("accuracy", "relevance", "tone", "safety", "helpfulness")


def fill(path: Path, say: Callable[[dict[str, str]], dict[str, str]]) -> None:
    table = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]), delimiter=";")
        writer.writeheader()
        writer.writerows({**row, **say(row)} for row in table)


def rows_of(path: Path) -> list[dict[str, object]]:
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def test_a_gate_waits_for_people_and_judges_again_once_they_have_rated(
    tunery: Tunery, tiny_model: Path, tmp_path: Path
) -> None:
    plain = pair_recipe(tiny_model, tmp_path, method="dpo", learning_rate=0.01, epochs=1)
    values = plain.model_dump(mode="json", exclude_unset=True)
    values["gate"] = {"rules": ["human.accuracy >= 4.2 with alpha >= 0.6"]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(values), encoding="utf-8")
    first = tunery("run", tmp_path / "recipe.yaml", "--json")
    assert first.code == 5, first.err
    assert "of the tuned model by people was not measured" in first.out

    out = tmp_path / "review"
    exported = tunery("evaluate", "review", "export", first.json["run"], "--out", out, "--json")
    assert exported.code == 0, exported.err
    assert exported.json["cards"] == 12  # six rows, the tuned model's answers and the best baseline's
    (key,) = rows_of(out / "key.json")
    tuned = {card["id"] for card in key["cards"] if card["systems"] == ["tuned"]}  # type: ignore[index,attr-defined]
    for person in (1, 2):
        fill(
            out / f"reviewer-{person}.csv",
            lambda row: {
                **dict.fromkeys(CARD, "5" if row["item"] in tuned else "2"),
                "correction": "say yes",
            },
        )
    imported = tunery("evaluate", "review", "import", out, "--json")
    assert imported.code == 0, imported.err
    review, feedback = imported.json["review"], imported.json["feedback"]
    assert set(review["systems"]) == {"tuned", "zero_shot"}
    assert review["metrics"]["tuned"]["accuracy"]["value"] == 5
    assert (feedback["examples"], feedback["preferences"], feedback["ratings"]) == (0, 0, 0)
    assert set(feedback["skipped"]) == {"held_out_exact"}

    again = tunery("run", tmp_path / "recipe.yaml", "--json")
    assert again.code == 0, again.err
    assert again.json["run"] == first.json["run"]
    assert "accuracy by people is 5" in again.out


def test_what_is_held_out_nowhere_becomes_rows_by_what_people_said(tunery: Tunery, tmp_path: Path) -> None:
    for system, text in (("one", "sure"), ("other", "no way")):
        lines = [
            {
                "id": i,
                "prompt": f"May I have colour number {i * 7}?",
                "prediction": f"{text} {i}",
                "correct": 1,
            }
            for i in range(8)
        ]
        (tmp_path / f"{system}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    files = (tmp_path / "one.jsonl", tmp_path / "other.jsonl")
    out = tmp_path / "review"
    assert tunery("evaluate", "review", "export", *files, "--out", out).code == 0
    for person in (1, 2):
        fill(
            out / f"reviewer-{person}.csv",
            lambda row: {
                **dict.fromkeys(CARD, "5" if row["answer"].startswith("sure") else "1"),
                "correction": "of course" if row["answer"] == "no way 3" else "",
            },
        )
    imported = tunery("evaluate", "review", "import", out)
    assert imported.code == 0, imported.err
    assert "1 examples, 0 pairs, " in imported.out
    (example,) = rows_of(out / "feedback" / "examples.jsonl")
    assert example["messages"][-1]["content"] == "of course"  # type: ignore[index]
    ratings = rows_of(out / "feedback" / "ratings.jsonl")
    assert {row["kto_tag"] for row in ratings} == {True, False}
    assert all(row["metadata"]["split_hint"] == "train" for row in ratings)  # type: ignore[index]


def test_pairs_that_people_judged_correct_the_judge_and_give_preferences(
    tunery: Tunery, tmp_path: Path
) -> None:
    for system, text in (("one", "no"), ("other", "yes")):
        lines = [
            {
                "id": i,
                "prompt": f"May I have colour number {i * 7}?",
                "prediction": f"{text} {i}",
                "correct": 1,
            }
            for i in range(6)
        ]
        (tmp_path / f"{system}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    files = (tmp_path / "one.jsonl", tmp_path / "other.jsonl")
    out = tmp_path / "review"
    assert tunery("evaluate", "review", "export", *files, "--out", out, "--pairwise").code == 0
    for person in (1, 2):
        fill(
            out / f"reviewer-{person}.csv",
            lambda row: {"preferred": "1" if row["answer 1"].startswith("yes") else "2"},
        )
    imported = tunery("evaluate", "review", "import", out, "--json")
    assert imported.code == 0, imported.err
    pairs = rows_of(out / "feedback" / "preferences.jsonl")
    assert len(pairs) == 6
    assert all(row["preferred_output"][0]["content"].startswith("yes") for row in pairs)  # type: ignore[index]


def test_a_third_person_gets_what_two_disagree_on(tunery: Tunery, tmp_path: Path) -> None:
    lines = [{"id": i, "prompt": f"q{i}", "prediction": f"a{i}", "correct": 1} for i in range(5)]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    out = tmp_path / "review"
    tunery("evaluate", "review", "export", tmp_path / "one.jsonl", "--out", out)
    fill(out / "reviewer-1.csv", lambda row: dict.fromkeys(CARD, "4"))
    fill(out / "reviewer-2.csv", lambda row: dict.fromkeys(CARD, "1" if row["answer"] == "a2" else "4"))
    told = tunery("evaluate", "review", "import", out)
    assert "review export --third" in told.out
    third = tunery("evaluate", "review", "export", "--third", "--out", out)
    assert third.code == 0, third.err
    table = (out / "reviewer-3.csv").read_text(encoding="utf-8-sig")
    assert table.count("\n") == 2
    assert "a2" in table
    both = tunery("evaluate", "review", "export", "run-1", "--third", "--out", out)
    assert both.code == 2
