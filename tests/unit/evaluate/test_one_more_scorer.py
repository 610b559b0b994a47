"""One more scorer costs one file: no other names it, and it is measured, gated, compared and reported."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.evaluate.scripted import CharTokenizer, ScriptedEngine, example
from tests.unit.registry.test_card import card_of
from tests.unit.report import report_samples as samples
from tunery.core.errors import ConfigError
from tunery.core.example import Message
from tunery.core.judging import ScorerModels
from tunery.evaluate import scorers
from tunery.evaluate.comparison import compare
from tunery.evaluate.config import EvaluateConfig, GoalConfig
from tunery.evaluate.form import form_check
from tunery.evaluate.prompting import Subject
from tunery.evaluate.run import EvaluationResult, evaluate
from tunery.evaluate.task import Task, make_task
from tunery.gate.check import check_rules
from tunery.gate.gate import GateEvidence, judge
from tunery.gate.rules import GateConfig, GateRule, gate_rules
from tunery.report import render_report

PARROTING = """
from tunery.evaluate.scorers import Declaration

DECLARATION = Declaration("words of the question said again", higher_is_better=False, checks_form=True)


class Parroting:
    def score(self, prediction, example):
        question = set(example.prompt[-1].content.split())
        return len(question & set(prediction.split())) / len(question)

    def correct(self, prediction, example):
        return self.score(prediction, example) == 0

    def valid(self, prediction):
        return bool(prediction.strip())


def make(options):
    return Parroting()
"""
KINDNESS = """
from tunery.core.example import Message
from tunery.evaluate.scorers import Declaration

DECLARATION = Declaration("kindness", needs=("judge",))


class Kindness:
    def __init__(self, judge):
        self._judge = judge

    def score(self, prediction, example):
        question = (*example.prompt, Message(role="assistant", content=prediction))
        return float(self._judge(question) == "kind")

    def correct(self, prediction, example):
        return self.score(prediction, example) == 1


def make(options):
    return Kindness(options.models.judge)
"""


@pytest.fixture(autouse=True)
def one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "parroting.py").write_text(PARROTING)
    (tmp_path / "kindness.py").write_text(KINDNESS)
    monkeypatch.setattr(scorers, "__path__", [*scorers.__path__, str(tmp_path)])
    yield
    for name in ("parroting", "kindness"):
        sys.modules.pop(f"{scorers.__name__}.{name}", None)


EXAMPLES = [example(f"where is card {i}", f"on its way to you {i}") for i in range(40)]


def task(*metrics: str, models: ScorerModels = scorers.NO_MODELS) -> Task:
    config = EvaluateConfig(metrics=metrics)
    return make_task(EXAMPLES, data="ds-1/test", config=config, main_metric=metrics[0], models=models)


def result(what: Task, subject: str, answer: str) -> EvaluationResult:
    engine = ScriptedEngine({e.prompt[-1].content: f"{answer} {i}" for i, e in enumerate(EXAMPLES)})
    return evaluate(engine, CharTokenizer(), what, subject=Subject(subject, "tiny@sha256:0"))


def test_a_recipe_may_name_it_and_its_answers_are_measured_and_compared_in_its_direction() -> None:
    goal = GoalConfig(metric="parroting", target=0.3)
    assert gate_rules(goal, GateConfig())[0].at_most == 0.3
    measured = task(goal.metric, "exact_match")
    before, after = result(measured, "zero_shot", "where is card"), result(measured, "tuned", "on its way")
    metric = after.evaluation.main
    assert (metric.title, metric.higher_is_better) == ("words of the question said again", False)
    assert metric.value == pytest.approx(0.25)
    compared = compare(before.predictions, after.predictions, metric="parroting")
    assert (compared.verdict, compared.metric_title) == ("better", metric.title)
    assert compared.difference == pytest.approx(0.75)


def test_a_right_or_wrong_score_where_less_is_better_is_compared_in_its_direction() -> None:
    measured = task("parroting")
    before, after = result(measured, "zero_shot", "where is card"), result(measured, "tuned", "sent")
    ones = [p.with_(scores={"parroting": float(p.scores["parroting"] == 1)}) for p in before.predictions]
    zeros = [p.with_(scores={"parroting": 0.0}) for p in after.predictions]
    compared = compare(ones, zeros, metric="parroting")
    assert (compared.test, compared.verdict, compared.fixed) == ("mcnemar_exact", "better", 40)
    assert (compared.value_a, compared.value_b) == (1.0, 0.0)


def test_a_gate_holds_it_to_a_bound_and_says_its_title() -> None:
    measured = task("parroting")
    rules = [GateRule(metric="parroting", at_most=0.3), GateRule(metric="parroting", gain_over="zero_shot")]
    check_rules(rules, measured, baselines=["zero_shot"], suites={})
    before, after = result(measured, "zero_shot", "where is card"), result(measured, "tuned", "on its way")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    passed = judge(rules, GateEvidence(after.evaluation, {"zero_shot": before.evaluation}), now=now)
    failed = judge(rules, GateEvidence(before.evaluation, {"zero_shot": after.evaluation}), now=now)
    assert (passed.passed, failed.passed) == (True, False)
    assert "words of the question said again" in passed.rules[0].sentence


def test_report_and_model_card_call_it_by_its_title() -> None:
    tuned = result(task("parroting", "exact_match"), "tuned", "on its way").evaluation
    run = samples.whole_run()
    page = render_report(dataclasses.replace(run, evaluations={"tuned": tuned}, comparisons={}))
    assert "words of the question said again" in page
    assert "lower is better" in page
    assert "| words of the question said again | 25.0 %" in card_of(run, evaluation=tuned, baselines={})


def test_a_form_that_it_checks_is_checked_of_served_answers_too() -> None:
    check = form_check(["parroting"], labels=None, json_schema=None)
    assert check is not None
    assert (check("sent"), check(" \n")) == (True, False)


def test_a_judge_reads_the_whole_conversation_and_is_missed_where_there_is_none() -> None:
    seen: list[Sequence[Message]] = []

    def model(conversation: Sequence[Message]) -> str:
        seen.append(conversation)
        return "kind" if conversation[-1].content.endswith("7") else "curt"

    measured = task("kindness", models=ScorerModels(judge=model))
    assert result(measured, "tuned", "sent").evaluation.main.value == 4 / 40
    assert [m.role for m in seen[0]] == ["user", "assistant"]
    with pytest.raises(ConfigError, match="kindness needs a model that judges"):
        task("kindness")


def test_what_auto_measures_does_not_change_by_it() -> None:
    auto = make_task(EXAMPLES, data="ds-1/test", config=EvaluateConfig(), main_metric="exact_match")
    assert auto.metrics == ("exact_match", "perplexity")
