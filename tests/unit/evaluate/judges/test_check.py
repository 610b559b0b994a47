"""A judge's check: agreement with people, kept under the judge's own key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from tests.unit.evaluate.judges.scripted import pair_judge, settings
from tests.unit.evaluate.judges.test_pairwise import pair
from tests.unit.synthesise.teacher import Teacher
from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.evaluate.judges.judge import EndpointJudge
from tunery.review.check import (
    LabelledAnswer,
    LabelledPair,
    check_judge,
    find_check,
    labels_kept,
)
from tunery.review.rows import read_labels
from tunery.store.workspace import Workspace


def judge_at(endpoint: Teacher, workspace: Workspace, **changes: object) -> EndpointJudge:
    return EndpointJudge(settings(endpoint.url, **changes), workspace.root / "judges", of="labels")


def test_a_check_of_pairs_is_kept_and_found_for_this_judge_alone(
    endpoint: Teacher, workspace: Workspace
) -> None:
    endpoint.say = pair_judge(first_bias=0.5)
    labels = [LabelledPair(pair(i, 1 + i % 5, 1 + (i * 2) % 5), ("a", "b", "tie")[i % 3]) for i in range(30)]
    judge = judge_at(endpoint, workspace)
    check = check_judge(workspace, judge, labels)
    assert check.n == 30
    assert check.position_bias is not None
    assert check.position_bias.value == pytest.approx(6 / 30)  # equals that turn with the order
    assert find_check(workspace, judge.config, "pairwise") == check
    assert find_check(workspace, judge.config, "rubric") is None
    assert find_check(workspace, settings(endpoint.url, rubric="be kind"), "pairwise") is None
    assert find_check(workspace, settings(endpoint.url, model="judge-2"), "pairwise") is None
    assert find_check(workspace, settings(endpoint.url, concurrency=1), "pairwise") == check
    assert len(labels_kept(workspace)) == 30


def test_kappa_of_scores_is_weighted_and_errors_count_as_missed(
    endpoint: Teacher, workspace: Workspace
) -> None:
    human = [1 + i % 5 for i in range(40)]
    judged = [min(5, max(1, score + (i % 4 == 1))) for i, score in enumerate(human)]
    rows = [
        LabelledAnswer(f"r{i}", (Message(role="user", content=f"q{i}"),), "good " * j + "end", h)
        for i, (h, j) in enumerate(zip(human, judged, strict=True))
    ]
    check = check_judge(workspace, judge_at(endpoint, workspace), rows)
    assert check.kappa == pytest.approx(cohen_kappa_score(human, judged, weights="quadratic"))
    assert check.accuracy == pytest.approx(sum(h == j for h, j in zip(human, judged, strict=True)) / 40)
    assert check.problem(0.4) is None
    endpoint.faults = [500, 500]
    worse = check_judge(workspace, judge_at(endpoint, workspace, concurrency=1, rubric="once more"), rows)
    assert worse.errors == 1
    assert worse.kappa < check.kappa
    assert worse.accuracy < check.accuracy


def test_a_judge_that_says_one_thing_always_may_feed_no_gate(endpoint: Teacher, workspace: Workspace) -> None:
    endpoint.say = lambda body: json.dumps({"better": "1"})
    labels = [LabelledPair(pair(i, 3, 3), ("a", "b")[i % 2]) for i in range(20)]
    check = check_judge(workspace, judge_at(endpoint, workspace), labels)
    assert check.kappa == 0
    assert check.position_bias is not None
    assert check.position_bias.value == 1
    assert "must reach 0.4" in (check.problem(0.4) or "")
    with pytest.raises(ConfigError, match="no agreement beyond chance"):
        check_judge(workspace, judge_at(endpoint, workspace, rubric="x"), labels[:1])


def test_labels_are_read_in_each_form_and_sides_are_drawn_for_chosen_answers(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rows = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)))
    sides = [row.preferred for row in read_labels(path) if isinstance(row, LabelledPair)]
    assert 10 < sides.count("a") < 30
    assert read_labels(path) == read_labels(path)
    path.write_text('{"prompt": "q", "a": "x", "b": "y", "preferred": "Tie"}')
    assert [row.preferred for row in read_labels(path) if isinstance(row, LabelledPair)] == ["tie"]
    path.write_text('{"prompt": "q", "answer": "x", "score": "4"}')
    assert [row.score for row in read_labels(path) if isinstance(row, LabelledAnswer)] == [4]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"prompt": "q", "answer": "x", "score": 6}], "6, not a whole number from 1 to 5"),
        ([{"prompt": "q", "a": "x", "b": "y", "preferred": "c"}], "'c', not a, b or tie"),
        ([{"a": "x", "b": "y", "preferred": "a"}], "no .prompt."),
        ([{"prompt": "q"}], "says nothing"),
        (
            [{"prompt": "q", "answer": "x", "score": 5}, {"prompt": "q", "chosen": "x", "rejected": "y"}],
            "both kinds",
        ),
        ([], "no rows"),
    ],
)
def test_bad_labels_are_refused_by_row(rows: list[object], says: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match=says):
        read_labels(path)
