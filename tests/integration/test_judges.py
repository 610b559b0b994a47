"""Judges in whole runs and beside them: checked before a gate rests on them, paid for once, never silent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_cli import Tunery, home, tunery
from tests.integration.live_api import BASE, live
from tests.pairs import pair_recipe
from tests.unit.evaluate.judges.conftest import endpoint
from tests.unit.evaluate.judges.scripted import data_of
from tests.unit.synthesise.teacher import Teacher
from tunery.core.errors import ConfigError
from tunery.core.progress import Silent
from tunery.evaluate.judges.config import JudgeConfig
from tunery.pipeline.context import RunContext
from tunery.pipeline.loop import run_recipe
from tunery.pipeline.recipe import Recipe, parse_recipe
from tunery.pipeline.stages.judge import open_judge
from tunery.review.check import check_judge
from tunery.review.rows import read_labels
from tunery.store.workspace import Workspace

__all__ = ["endpoint", "home", "tunery"]  # fixtures


def likes_yes(body: dict[str, Any]) -> str:
    """Judge answers by whether they say yes."""
    shown = data_of(body)
    points = {name: 5 if "yes" in text else 2 for name, text in shown.items()}
    if "answer" in shown:
        names = ("correctness", "relevance", "clarity", "overall")
        return json.dumps({"reason": "", **dict.fromkeys(names, points["answer"])})
    lead = points["answer-1"] - points["answer-2"]
    return json.dumps({"reason": "", "better": "1" if lead > 0 else "2" if lead < 0 else "tie"})


def judged_recipe(base: Path, folder: Path, url: str, **gate: Any) -> Recipe:
    plain = pair_recipe(base, folder, method="dpo", learning_rate=0.01, epochs=1)
    values = plain.model_dump(mode="json", exclude_unset=True)
    values["evaluate"] |= {
        "metrics": ["exact_match", "judge_rubric", "judge_win_rate"],
        "judge": {"base_url": url, "model": "judge-1", "api_key_env": "JUDGE_KEY"},
    }
    values["gate"] = {"rules": gate.get("rules", ["judge_rubric >= 0.1", "judge_win_rate >= 0.1"])}
    return parse_recipe(values, where="recipe")


def labels(folder: Path, n: int = 24) -> tuple[Path, Path]:
    """Write what people said of answers and of pairs, as the judge sees them."""
    answers = [
        {"prompt": f"q{i}", "answer": "yes" if i % 2 else "no", "score": 5 if i % 2 else 2} for i in range(n)
    ]
    pairs = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(n)]
    files = folder / "answers.jsonl", folder / "pairs-labelled.jsonl"
    for file, rows in zip(files, (answers, pairs), strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return files


def test_a_gate_rests_on_a_judge_only_after_people_were_shown_to_agree_with_it(
    endpoint: Teacher,
    tiny_model: Path,
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    endpoint.say = likes_yes
    recipe = judged_recipe(tiny_model, tmp_path, endpoint.url)
    context = RunContext(recipe, workspace, tmp_path, Silent())
    with pytest.raises(ConfigError, match="judge-check LABELS") as caught:
        run_recipe(context)
    assert "gate.rules[0].metric: judge_rubric" in caught.value.message
    assert "gate.rules[1].metric: judge_win_rate" in caught.value.message
    assert endpoint.bodies == []
    assert workspace.evaluations.list() == []

    assert recipe.evaluate.judge is not None
    for file in labels(tmp_path):
        judge = open_judge(workspace, recipe.evaluate.judge, of=file.name, progress=Silent())
        check_judge(workspace, judge, read_labels(file))
    asked = len(endpoint.bodies)
    run = run_recipe(context)
    assert run.status in ("succeeded", "refused"), run.error
    tuned = workspace.evaluations.get(run.evaluations["tuned"])
    assert tuned.metrics["judge_rubric"].n == 6
    assert tuned.metrics["judge_rubric.unjudged"].value == 0
    assert run.judged is not None
    assert (run.judged["a"], run.judged["b"], run.judged["n"]) == ("zero_shot", "tuned", 6)
    assert "judge-1 prefers the answers of tuned to those of zero-shot prompting" in run.judged["sentence"]
    page = Path(run.report or "").read_text(encoding="utf-8").replace("\u00a0", " ")
    assert run.judged["sentence"].partition(" on ")[0] in page
    gate = workspace.gates.get(run.gate_id or "")
    assert {outcome.rule["metric"] for outcome in gate.rules} == {"judge_rubric", "judge_win_rate"}
    assert all(outcome.observed is not None for outcome in gate.rules)
    assert len(endpoint.bodies) > asked


def test_a_judge_whom_people_contradict_is_refused_with_its_kappa(
    endpoint: Teacher,
    tiny_model: Path,
    workspace: Workspace,
    tmp_path: Path,
) -> None:
    endpoint.say = likes_yes
    recipe = judged_recipe(tiny_model, tmp_path, endpoint.url, rules=["judge_rubric >= 0.1"])
    assert recipe.evaluate.judge is not None
    contrary = [
        {"prompt": f"q{i}", "answer": "yes" if i % 2 else "no", "score": 1 if i % 2 else 5} for i in range(20)
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in contrary))
    judge = open_judge(workspace, recipe.evaluate.judge, of="labels", progress=Silent())
    assert check_judge(workspace, judge, read_labels(file)).kappa < 0
    with pytest.raises(ConfigError, match=r"its kappa with people is -0\.\d+ .* must reach 0\.4"):
        run_recipe(RunContext(recipe, workspace, tmp_path, Silent()))


def test_two_files_are_compared_and_corrected_from_the_command_line(
    endpoint: Teacher,
    tunery: Tunery,
    tmp_path: Path,
) -> None:
    endpoint.say = likes_yes
    rows = [(f"q{i}", "no" if i % 4 else "yes", "yes") for i in range(16)]
    for name, place in (("a", 1), ("b", 2)):
        lines = [
            {"id": i, "prompt": row[0], "prediction": f"{row[place]} {i}", "reference": "x"}
            for i, row in enumerate(rows)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    judge = ("--endpoint", endpoint.url, "--model", "judge-1", "--api-key-env", "JUDGE_KEY")
    files = (tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    raw = tunery("evaluate", "judge", *files, *judge, "--json")
    assert raw.code == 0, raw.err
    assert (raw.json["wins_b"], raw.json["ties"], raw.json["corrected"]) == (12, 4, None)
    assert raw.json["verdict"] == "better"

    labelled = [
        {"prompt": q, "a": f"{x} {i}", "b": f"{y} {i}", "preferred": "b" if i % 3 else "a"}
        for i, (q, x, y) in enumerate(rows[:8])
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(x) + "\n" for x in labelled))
    checked = tunery("evaluate", "judge-check", tmp_path / "labels.jsonl", *judge)
    assert checked.code == 0, checked.err
    assert "No gate may rest on this judge" in checked.out
    paid = len(endpoint.bodies)
    again = tunery("evaluate", "judge", *files, *judge)
    assert again.code == 0, again.err
    assert re.search(r"corrected +\d+\.\d % \(95 % interval", again.out)
    assert "people agree with this judge too little" in again.out
    assert len(endpoint.bodies) == paid


def test_a_recipe_lends_its_judge_and_a_judge_without_an_address_is_refused(
    endpoint: Teacher,
    tunery: Tunery,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    endpoint.say = likes_yes
    recipe = judged_recipe(tiny_model, tmp_path, endpoint.url)
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json", exclude_unset=True)))
    file, _ = labels(tmp_path)
    checked = tunery("evaluate", "judge-check", file, "--recipe", tmp_path / "recipe.yaml", "--json")
    assert checked.code == 0, checked.err
    assert checked.json["kappa"] == 1
    refused = tunery("evaluate", "judge-check", file)
    assert refused.code == 2
    assert "--endpoint URL --model NAME" in refused.err


def test_a_real_model_that_cannot_judge_ends_as_errors_that_are_counted(
    tiny_model: Path, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, pairs = labels(tmp_path, 4)
    with live(workspace, tiny_model) as server:
        monkeypatch.setenv("JUDGE_KEY", server.secret)
        config = JudgeConfig.model_validate(
            {
                "base_url": f"{server.url}/v1",
                "model": BASE,
                "api_key_env": "JUDGE_KEY",
                "max_tokens": 16,
            }
        )
        judge = open_judge(workspace, config, of="pairs", progress=Silent())
        check = check_judge(workspace, judge, read_labels(pairs))
    assert check.n == 4
    assert check.errors == 4
    assert check.accuracy == 0
    assert check.problem(config.min_kappa) is not None


def says_yes(body: dict[str, Any]) -> str:
    """Grade an answer by whether it says yes."""
    return json.dumps({"result": 5 if "yes" in str(body["messages"][-1]["content"]) else 1})


def graded_recipe(base: Path, folder: Path, url: str, rule: str) -> Path:
    values = pair_recipe(base, folder, method="dpo", epochs=1).model_dump(mode="json", exclude_unset=True)
    values["evaluate"] |= {
        "judge": {"base_url": url, "model": "judge-1", "api_key_env": "JUDGE_KEY"},
        "graders": {
            "Kind words": {
                "type": "score_model",
                "model": "grader-1",
                "range": [1, 5],
                "input": [{"role": "user", "content": "How kind is this? {{ sample.output_text }}"}],
            },
            "same": {
                "type": "string_check",
                "input": "{{ sample.output_text }}",
                "reference": "{{ item.reference }}",
                "operation": "eq",
            },
        },
    }
    values["gate"] = {"rules": [rule]}
    path = folder / "graded.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def mark(folder: Path, *, agree: bool) -> Path:
    rows = [
        {"prompt": f"q{i}", "answer": "yes" if i % 2 else "no", "passes": (i % 2 == 1) == agree}
        for i in range(24)
    ]
    file = folder / "marked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("rule", ["grader.kind_words >= 0.1", "grader >= 0.1"])
def test_a_gate_rests_on_a_grading_model_only_after_people_were_shown_to_agree_with_it(
    endpoint: Teacher, tiny_model: Path, tunery: Tunery, tmp_path: Path, rule: str
) -> None:
    endpoint.say = says_yes
    recipe = graded_recipe(tiny_model, tmp_path, endpoint.url, rule)
    refused = tunery("run", recipe)
    assert refused.code == 2
    assert "is judged by the grader Kind words" in refused.err
    assert "judge-check LABELS.jsonl --recipe RECIPE --grader kind_words" in refused.err
    assert endpoint.bodies == []

    check = ("evaluate", "judge-check", tmp_path / "marked.jsonl", "--recipe", recipe, "--json", "--grader")
    mark(tmp_path, agree=False)
    against = tunery(*check, "kind_words")
    assert against.code == 0, against.err
    assert against.json["kappa"] < 0
    assert "its kappa with people is -" in tunery("run", recipe).err

    mark(tmp_path, agree=True)
    checked = tunery(*check, "Kind words")
    assert (checked.json["kind"], checked.json["model"], checked.json["accuracy"]) == (
        "grader",
        "grader-1",
        1,
    )
    ran = tunery("run", recipe, "--json")
    assert ran.code in (0, 5), ran.err
    assert ran.json["gate"]["rules"][0]["observed"] is not None


def test_a_rule_on_a_grader_that_asks_no_model_needs_no_check(
    endpoint: Teacher, tiny_model: Path, tunery: Tunery, tmp_path: Path
) -> None:
    endpoint.say = says_yes
    recipe = graded_recipe(tiny_model, tmp_path, endpoint.url, "grader.same >= 0")
    assert tunery("run", recipe, "--json").code == 0
    unknown = tunery(
        "evaluate", "judge-check", mark(tmp_path, agree=True), "--recipe", recipe, "--grader", "same"
    )
    assert unknown.code == 3
    assert "kind_words" in unknown.err
