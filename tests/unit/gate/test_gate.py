"""A gate that has only been seen passing is untested: here it mostly refuses."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.evaluate.scripted import example
from tunery.core.errors import ConfigError
from tunery.core.evaluation import Comparison, Evaluation, GateResult, Metric
from tunery.core.statistics import wilson_interval
from tunery.evaluate.config import EvaluateConfig
from tunery.evaluate.task import make_task
from tunery.gate.check import check_rules
from tunery.gate.gate import GateEvidence, Ratings, SuiteResult, judge, verdict
from tunery.gate.rules import GateRule

NOW = datetime(2026, 1, 1, tzinfo=UTC)
N = 1000


def metric(name: str, value: float) -> Metric:
    interval = wilson_interval(value * N, N) if 0 <= value <= 1 else (value, value)
    return Metric(
        name=name, value=value, n=N, ci95=interval, method="wilson", higher_is_better=name != "perplexity"
    )


def evaluation(subject: str, *, data: str = "ds-1/test", **values: float) -> Evaluation:
    return Evaluation(
        id=f"eval-{subject}",
        subject=subject,
        base="tiny@sha256:0",
        adapter=None,
        data=data,
        main_metric="exact_match",
        metrics={name: metric(name, value) for name, value in values.items()},
        config={},
        created_at=NOW,
        seconds=1.0,
    )


def comparison(a: str, p_value: float, difference: float = 0.1, name: str = "exact_match") -> Comparison:
    return Comparison(
        a=a,
        b="tuned",
        metric=name,
        n=N,
        fixed=1,
        broken=1,
        p_value=p_value,
        difference=difference,
        ci95=(0.0, 1.0),
        test="mcnemar_exact",
        verdict="better",
    )


def evidence(tuned: float = 0.731, **changes: Any) -> GateEvidence:
    found: dict[str, Any] = {
        "tuned": evaluation("tuned", exact_match=tuned),
        "baselines": {
            "zero_shot": evaluation("zero_shot", exact_match=0.05),
            "few_shot": evaluation("few_shot", exact_match=0.319),
            "zero_shot_constrained": evaluation("zero_shot_constrained", exact_match=0.41),
        },
        "comparisons": [comparison("few_shot", 1e-50), comparison("zero_shot_constrained", 1e-40)],
    }
    return GateEvidence(**(found | changes))


def one(rule: Mapping[str, Any], given: GateEvidence) -> tuple[bool, str]:
    result = judge([GateRule(**{"metric": "exact_match", **rule})], given, now=NOW)
    assert result.passed == result.rules[0].passed
    return result.passed, result.rules[0].sentence


def test_a_gain_is_stated_in_one_sentence_with_its_numbers() -> None:
    passed, sentence = one({"gain_over": "few_shot", "by": 0.05, "significant": True}, evidence())
    assert passed
    assert sentence == (
        "exact match 73.1 % is 41.2 points above few-shot prompting (31.9 %), a gain of at least 5 points "
        "required; p < 0.001"
    )


def test_a_bound_is_stated_with_n_and_interval() -> None:
    passed, sentence = one({"at_least": 0.7}, evidence())
    assert passed
    assert sentence == (
        "exact match is 73.1 % (n = 1,000, 95 % interval 70.3–75.8 %), at least 70 % required"
    )


@pytest.mark.parametrize(
    ("rule", "tuned", "passes"),
    [
        ({"at_least": 0.7}, 0.7, True),
        ({"at_least": 0.7}, 0.699, False),
        ({"at_most": 0.7}, 0.7, True),
        ({"at_most": 0.7}, 0.701, False),
        ({"gain_over": "zero_shot", "by": 0.25}, 0.30, True),
        ({"gain_over": "zero_shot", "by": 0.25}, 0.299, False),
        ({"gain_over": "few_shot"}, 0.319, False),
        ({"gain_over": "few_shot"}, 0.320, True),
        ({"gain_over": "best_baseline", "by": 0.1}, 0.5, False),
        ({"gain_over": "best_baseline", "by": 0.1}, 0.51, True),
    ],
)
def test_rules_hold_or_fail_by_their_numbers(rule: dict[str, Any], tuned: float, passes: bool) -> None:
    assert one(rule, evidence(tuned))[0] is passes


def test_the_gate_says_that_prompting_wins() -> None:
    rules = [GateRule(metric="exact_match", gain_over="best_baseline", by=0.02)]
    result = judge(rules, evidence(0.3), now=NOW)
    assert not result.passed
    assert result.rules[0].sentence == (
        "exact match 30.0 % is 11.0 points below zero-shot, held to the labels (41.0 %), a gain of at least "
        "2 points required; prompting wins"
    )
    assert verdict(result) == "do not ship; prompting wins"


def test_a_gain_too_small_is_no_win_of_prompting() -> None:
    rules = [
        GateRule(metric="exact_match", gain_over="few_shot", by=0.5),
        GateRule(metric="exact_match", at_least=0),
    ]
    assert verdict(judge(rules, evidence(), now=NOW)) == "do not ship: 1 of 2 rules failed"


def test_one_failing_rule_closes_the_gate() -> None:
    rules = [GateRule(metric="exact_match", at_least=bound) for bound in (0.1, 0.2, 0.99)]
    result = judge(rules, evidence(), now=NOW)
    assert [r.passed for r in result.rules] == [True, True, False]
    assert not result.passed
    assert verdict(judge(rules[:2], evidence(), now=NOW)) == "ship: all 2 rules hold"


def test_what_nobody_measured_stands_in_the_verdict() -> None:
    rule = GateRule(metric="exact_match", at_least=0.5)
    found = replace(evidence(), unmeasured="what it forgot was not measured")
    assert verdict(judge([rule], found, now=NOW)).endswith("but what it forgot was not measured")


def test_a_gain_that_chance_explains_does_not_pass_where_significance_is_asked() -> None:
    rule = {"gain_over": "few_shot", "significant": True}
    passed, sentence = one(rule, evidence(comparisons=[comparison("few_shot", 0.08)]))
    assert not passed
    assert sentence.endswith("p = 0.080, no gain shown")
    assert not one(rule, evidence(comparisons=[comparison("few_shot", 0.001, difference=-0.1)]))[0]


def test_a_p_value_too_small_for_a_float_is_written_as_a_bound() -> None:
    rule = {"gain_over": "few_shot", "significant": True}
    assert one(rule, evidence(comparisons=[comparison("few_shot", 0.0)]))[1].endswith("p < 0.001")


@pytest.mark.parametrize(
    "comparisons",
    [
        [],
        [comparison("zero_shot", 1e-9)],
        [comparison("few_shot", 1e-9, name="macro_f1")],
        [comparison("few_shot", math.nan)],
    ],
)
def test_significance_without_the_paired_test_cannot_be_judged(comparisons: list[Comparison]) -> None:
    passed, sentence = one({"gain_over": "few_shot", "significant": True}, evidence(comparisons=comparisons))
    assert not passed
    assert "no paired test" in sentence
    assert sentence.endswith("a rule that cannot be judged fails")


@pytest.mark.parametrize(
    "rule",
    [
        {"at_least": 0.0},
        {"at_most": 1.0},
        {"gain_over": "zero_shot"},
        {"gain_over": "few_shot"},
        {"gain_over": "best_baseline"},
        {"gain_over": "champion"},
        {"no_regression_on": "general", "tolerance": 1.0},
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_number_never_passes(rule: dict[str, Any], value: float | None) -> None:
    broken = evaluation("tuned", **({} if value is None else {"exact_match": value}))
    suite = SuiteResult(evaluation("base", exact_match=0.5), broken)
    given = evidence(tuned=0, champion=evaluation("name@1", exact_match=0.1), suites={"general": suite})
    given = GateEvidence(broken, given.baselines, given.comparisons, given.champion, given.suites)
    passed, sentence = one(rule, given)
    assert not passed
    assert "cannot be judged" in sentence


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_an_opponent_that_is_no_number_is_not_beaten(value: float) -> None:
    baselines = {"zero_shot": evaluation("zero_shot", exact_match=value)}
    few = {"few_shot": evaluation("few_shot", exact_match=0.1)}
    assert not one({"gain_over": "zero_shot"}, evidence(baselines=baselines))[0]
    assert not one({"gain_over": "best_baseline"}, evidence(baselines=baselines | few))[0]
    champion = evaluation("name@1", exact_match=value)
    assert not one({"gain_over": "champion"}, evidence(champion=champion))[0]


def test_an_opponent_that_was_not_measured_is_not_beaten() -> None:
    passed, sentence = one({"gain_over": "few_shot"}, evidence(baselines={}))
    assert (passed, sentence.partition(";")[0]) == (
        False,
        "there is no evaluation of few-shot prompting to compare with",
    )
    assert not one({"gain_over": "best_baseline"}, evidence(baselines={}))[0]
    assert not one({"no_regression_on": "general"}, evidence())[0]


def test_numbers_from_other_rows_are_not_compared() -> None:
    other = {"few_shot": evaluation("few_shot", data="ds-2/test", exact_match=0.1)}
    passed, sentence = one({"gain_over": "few_shot"}, evidence(baselines=other))
    assert not passed
    assert "ds-2/test" in sentence


def test_with_no_champion_a_champion_rule_passes_and_says_so() -> None:
    passed, sentence = one({"gain_over": "champion", "by": 0.01, "significant": True}, evidence())
    assert passed
    assert "no champion yet" in sentence


@pytest.mark.parametrize(("before", "passes"), [(0.7, True), (0.731, False), (0.8, False)])
def test_a_champion_must_be_beaten(before: float, passes: bool) -> None:
    champion = evaluation("bot@3", exact_match=before)
    passed, sentence = one({"gain_over": "champion"}, evidence(champion=champion))
    assert passed is passes
    assert "bot@3" in sentence
    assert "prompting" not in sentence


@pytest.mark.parametrize(("after", "passes"), [(0.5, True), (0.48, True), (0.479, False), (0.6, True)])
def test_a_named_suite_may_lose_no_more_than_the_tolerance(after: float, passes: bool) -> None:
    numbers = SuiteResult(evaluation("base", accuracy=0.5), evaluation("tuned", accuracy=after))
    rule = {"metric": "accuracy", "no_regression_on": "hellaswag", "tolerance": 0.02}
    passed, sentence = one(rule, evidence(suites={"hellaswag": numbers}))
    assert passed is passes
    assert "accuracy on hellaswag is" in sentence
    assert "up to 2 points is accepted" in sentence


@pytest.mark.parametrize(("tuned", "passes"), [(2.0, True), (3.0, False), (4.0, False)])
def test_a_gain_in_perplexity_is_a_fall(tuned: float, passes: bool) -> None:
    given = GateEvidence(
        tuned=evaluation("tuned", perplexity=tuned),
        baselines={
            name: evaluation(name, perplexity=v) for name, v in (("zero_shot", 9.0), ("few_shot", 3.0))
        },
    )
    passed, sentence = one({"metric": "perplexity", "gain_over": "best_baseline"}, given)
    assert passed is passes
    assert "few-shot prompting (3)" in sentence
    assert ("prompting wins" in sentence) is (tuned == 4.0)


def test_the_result_can_be_stored_and_read_and_keeps_its_id() -> None:
    rules = [GateRule(metric="exact_match", at_least=0.5), GateRule(metric="perplexity", at_most=2)]
    result = judge(rules, evidence(), now=NOW)
    assert GateResult.model_validate_json(result.model_dump_json()) == result
    assert judge(rules, evidence(), now=datetime(2027, 1, 1, tzinfo=UTC)).id == result.id
    assert judge(rules, evidence(0.6), now=NOW).id != result.id
    assert result.rules[0].rule == {"metric": "exact_match", "at_least": 0.5}


def test_a_gate_without_rules_is_refused() -> None:
    with pytest.raises(ConfigError, match="no rules"):
        judge([], evidence(), now=NOW)


def test_a_gain_over_the_model_that_training_started_from_is_judged_and_needs_one() -> None:
    rule = {"gain_over": "start", "by": 0.05, "significant": True}
    start, shown = evaluation("start", exact_match=0.6), [comparison("start", 1e-9)]
    assert one(rule, evidence(start=start, comparisons=shown))[0]
    assert not one(rule, evidence(0.64, start=start, comparisons=shown))[0]
    assert not one(rule, evidence(start=start))[0]  # no paired test
    assert not one(rule, evidence())[0]
    # It is no prompting, so it is no baseline to beat either.
    assert one({"gain_over": "best_baseline"}, evidence(0.5, start=start))[0]
    task = make_task([example("q", "text")], data="d", config=EvaluateConfig(), main_metric="exact_match")
    rules = [GateRule(metric="exact_match", gain_over="start")]
    check_rules(rules, task, baselines=[], suites={}, start=True)
    with pytest.raises(ConfigError, match=r"gain_over start, and train.start_from names no training before"):
        check_rules(rules, task, baselines=[], suites={})


def test_rules_that_could_only_fail_are_refused_before_training() -> None:
    task = make_task([example("q", "text")], data="d", config=EvaluateConfig(), main_metric="exact_match")
    rules = [
        GateRule(metric="macro_f1", at_least=0.5),
        GateRule(metric="exact_match", gain_over="few_shot"),
        GateRule(metric="accuracy", no_regression_on="hellaswag"),
        GateRule(metric="exact_match", gain_over="champion"),
    ]
    with pytest.raises(ConfigError) as caught:
        check_rules(rules, task, baselines=["zero_shot"], suites={"general": task})
    message = caught.value.message
    assert "3 problems" in message
    for part in (
        "rules[0].metric: 'macro_f1' is not",
        "rules[1]: gain_over few_shot",
        "rules[2]: suite 'hellaswag'",
    ):
        assert part in message
    check_rules([rules[1], rules[3]], task, baselines=["zero_shot", "few_shot"], suites={})
    with pytest.raises(ConfigError, match="no rules"):
        check_rules([], task, baselines=[], suites={})
    best = [GateRule(metric="exact_match", gain_over="best_baseline")]
    with pytest.raises(ConfigError, match="all baselines are switched off"):
        check_rules(best, task, baselines=[], suites={})


@pytest.mark.parametrize(
    ("rule", "tuned", "shown"),
    [
        ({"at_least": 0.8725}, 0.8723, "exact match is 87.2 % … at least 87.25 % required"),
        ({"at_least": 0.8725}, 0.8725, "exact match is 87.25 % … at least 87.25 % required"),
        ({"at_least": 0.87}, 0.8698, "exact match is 86.98 % … at least 87 % required"),
        ({"at_least": 0.9996}, 0.9992, "exact match is 99.9 % … at least 99.96 % required"),
        ({"at_least": 0.9996}, 0.9998, "exact match is 99.98 % … at least 99.96 % required"),
        ({"at_most": 0.0005}, 0.0007, "exact match is 0.1 % … at most 0.05 % required"),
        ({"at_most": 3.213, "metric": "perplexity"}, 3.214, "perplexity is 3.214 … at most 3.213 required"),
        ({"gain_over": "few_shot", "by": 0.0005}, 0.3194, "is 0.04 points above … at least 0.05 points"),
        ({"gain_over": "few_shot", "by": 0.05}, 0.3686, "is 4.96 points above … at least 5 points required"),
        ({"gain_over": "few_shot", "by": 0.05}, 0.369, "is 5.0 points above … at least 5 points required"),
    ],
)
def test_what_is_measured_reads_on_its_side_of_what_is_required(
    rule: dict[str, Any], tuned: float, shown: str
) -> None:
    measured = evaluation("tuned", **{rule.get("metric", "exact_match"): tuned})
    sentence = one(rule, GateEvidence(measured, evidence().baselines))[1]
    start, end = shown.split(" … ")
    assert start in sentence
    assert end in sentence.partition(start)[2]


def test_a_loss_reads_on_its_side_of_the_tolerance() -> None:
    suite = SuiteResult(evaluation("base", exact_match=0.5), evaluation("tuned", exact_match=0.4796))
    passed, sentence = one(
        {"no_regression_on": "general", "tolerance": 0.02}, evidence(suites={"general": suite})
    )
    assert not passed
    assert "2.04 points below the base" in sentence
    assert "a loss of up to 2 points is accepted" in sentence


def paired(
    a: str, difference: float, ci95: tuple[float, float], p_value: float = 0.5, name: str = "exact_match"
) -> Comparison:
    return comparison(a, p_value, difference, name).with_(ci95=ci95)


@pytest.mark.parametrize(
    ("loss", "ci95", "passes"),
    [
        (0.0, (-0.01, 0.01), True),
        (-0.01, (-0.019, -0.001), True),
        (-0.01, (-0.021, 0.001), False),
        (-0.03, (-0.05, -0.01), False),
        (0.05, (-0.03, 0.13), False),
    ],
)
def test_a_loss_must_be_ruled_out_by_the_interval(
    loss: float, ci95: tuple[float, float], passes: bool
) -> None:
    before, after = evaluation("base on general", accuracy=0.5), evaluation("tuned", accuracy=0.5 + loss)
    compared = paired("base on general", loss, ci95, name="accuracy")
    rule = {"metric": "accuracy", "on": "general", "no_worse_than": "base", "within": 0.02}
    found, sentence = one(rule, evidence(suites={"general": SuiteResult(before, after, (compared,))}))
    assert found is passes
    assert "accuracy on general is" in sentence
    assert "a loss of more than 2 points must be ruled out" in sentence
    assert ("not ruled out" in sentence) is not passes


def test_a_loss_elsewhere_keeps_a_model_from_being_shipped_and_the_verdict_says_where() -> None:
    before, after = evaluation("base on general", accuracy=0.5), evaluation("tuned", accuracy=0.45)
    compared = paired("base on general", -0.05, (-0.08, -0.02), 0.001, name="accuracy")
    suite = SuiteResult(before, after, (compared,))
    rules = [
        GateRule(metric="exact_match", at_least=0.5),
        GateRule(metric="accuracy", on="general", no_worse_than="base", within=0.02),
    ]
    result = judge(rules, evidence(suites={"general": suite}), now=NOW)
    assert verdict(result) == "do not ship: the task's rules hold, those of general do not"
    loose = judge(rules[:1], evidence(suites={"general": suite}), now=NOW)
    assert loose.passed
    assert "accuracy on general is worse than the base's (−5.0 points" in verdict(loose)


@pytest.mark.parametrize(("p", "told"), [(0.03, False), (0.004, True)])
def test_a_kind_that_lost_is_told_once_it_is_shown_over_all_kinds(p: float, told: bool) -> None:
    names = ("accuracy", "accuracy.stories", "accuracy.facts")
    before, after = (
        evaluation(subject, **dict.fromkeys(names, value))
        for subject, value in (("base on general", 0.5), ("tuned", 0.45))
    )
    losses = zip(names, (0.6, p, 0.9), strict=True)
    compared = tuple(paired("base on general", -0.05, (-0.09, -0.01), p, name=name) for name, p in losses)
    suites = {"general": SuiteResult(before, after, compared)}
    found = judge([GateRule(metric="exact_match", at_least=0.5)], evidence(suites=suites), now=NOW)
    said = [c for c in found.caveats if "stories on general is worse than the base's" in c]
    assert bool(said) is told
    assert not said or "p = 0.012" in said[0]


@pytest.mark.parametrize(("low", "passes"), [(0.051, True), (0.049, False)])
def test_a_gain_may_be_asked_of_the_whole_interval(low: float, passes: bool) -> None:
    given = evidence(comparisons=[paired("few_shot", 0.1, (low, 0.3), 1e-9)])
    found, sentence = one({"gain_over": "few_shot", "by": 0.05, "ci": True}, given)
    assert found is passes
    assert "of the 95 % interval" in sentence


@pytest.mark.parametrize(("limit", "passes"), [(0.70, True), (0.703, False), (0.74, False)])
def test_a_bound_may_be_asked_of_the_whole_interval(limit: float, passes: bool) -> None:
    low = wilson_interval(0.731 * N, N).low
    assert 0.70 < low < 0.703
    assert one({"at_least": limit, "ci": True}, evidence())[0] is passes


def test_rules_that_ask_for_something_to_be_shown_share_one_alpha() -> None:
    shown = [comparison("few_shot", 0.03), comparison("zero_shot", 0.04)]
    rules = [
        GateRule(metric="exact_match", gain_over=name, significant=True) for name in ("few_shot", "zero_shot")
    ]
    assert judge(rules[:1], evidence(comparisons=shown), now=NOW).passed
    both = judge(rules, evidence(comparisons=shown), now=NOW)
    assert [r.passed for r in both.rules] == [False, False]
    assert [r.p_value for r in both.rules] == [0.06, 0.06]
    assert both.rules[0].sentence.endswith("p = 0.060 over 2 rules, no gain shown")
    assert judge(rules, evidence(comparisons=shown), now=NOW, alpha=0.1).passed


def test_ratings_by_people_need_agreement() -> None:
    rule = "human.accuracy >= 4.2 with alpha >= 0.6"
    metrics = {"accuracy": Metric(name="accuracy", value=4.3, n=50, ci95=(4.1, 4.5), method="bootstrap")}
    for alpha, passes in ((0.7, True), (0.5, False), (None, False)):
        ratings = Ratings(metrics, {} if alpha is None else {"accuracy": alpha})
        result = judge([GateRule.model_validate(rule)], evidence(ratings=ratings), now=NOW)
        assert result.passed is passes
    assert "accuracy by people is 4.30" in result.rules[0].sentence
    assert not judge([GateRule.model_validate(rule)], evidence(), now=NOW).passed


def test_a_shipped_model_whose_gain_is_not_shown_says_so_in_the_same_sentence() -> None:
    rules = [GateRule(metric="exact_match", at_least=0.5)]
    weak = [paired("zero_shot_constrained", 0.004, (-0.01, 0.018), 0.61)]
    result = judge(rules, evidence(comparisons=weak), now=NOW)
    assert verdict(result) == (
        "ship: the rule holds; but no gain over zero-shot, held to the labels is shown (+0.4 points, 95 % "
        "interval −1.0 to +1.8, p = 0.61)"
    )


@pytest.mark.parametrize(
    ("rule", "given", "says"),
    [
        ({"at_least": 0.75}, {}, "19 more right answers of 1,000 would reach it"),
        ({"gain_over": "few_shot", "by": 0.5}, {}, "88 more right answers of 1,000 would reach it"),
        (
            {"gain_over": "few_shot", "significant": True},
            {"comparisons": [paired("few_shot", 0.01, (-0.01, 0.03), 0.3)]},
            "about 4,000 rows would show it",
        ),
    ],
)
def test_a_refusal_says_what_would_change_it(rule: dict[str, Any], given: dict[str, Any], says: str) -> None:
    result = judge([GateRule(**{"metric": "exact_match", **rule})], evidence(**given), now=NOW)
    assert says in (result.rules[0].change or "")
    passing = judge([GateRule(metric="exact_match", at_least=0.1)], evidence(), now=NOW)
    assert passing.rules[0].change is None


def arm(subject: str, value: float, rows: int = N) -> Evaluation:
    found = evaluation(subject, exact_match=value).with_(arm=subject)
    return found.with_(metrics={"exact_match": found.main.with_(n=rows)})


def test_a_classifier_stands_in_best_arm_and_never_in_best_baseline() -> None:
    given = evidence()
    baselines = {**given.baselines, "tfidf": arm("tfidf", 0.72)}
    given = evidence(baselines=baselines, comparisons=[*given.comparisons, comparison("tfidf", 0.6, 0.011)])
    assert one({"gain_over": "best_baseline", "by": 0.05, "significant": True}, given)[0]
    passed, sentence = one({"gain_over": "best_arm", "by": 0.05, "significant": True}, given)
    assert not passed
    assert "above TF-IDF with logistic regression (72.0 %)" in sentence
    result = judge([GateRule(metric="exact_match", gain_over="best_baseline", by=0.05)], given, now=NOW)
    assert verdict(result).startswith(
        "ship: the rule holds; but no gain over TF-IDF with logistic regression is shown (+1.1 points"
    )


def test_an_arm_that_answered_a_part_of_the_rows_is_not_the_best_of_all() -> None:
    given = evidence()
    given = evidence(baselines={**given.baselines, "agents": arm("agents", 0.99, rows=20)})
    assert one({"gain_over": "best_arm", "by": 0.05}, given)[0]
    assert not any(
        "agents" in c for c in judge([GateRule(metric="exact_match", at_least=0.5)], given, now=NOW).caveats
    )


def test_rules_about_arms_are_refused_where_those_are_not_measured() -> None:
    rules = [GateRule(metric="exact_match", gain_over=arm) for arm in ("tfidf", "best_arm", "best_baseline")]
    task = make_task([example("q", "a")], data="d", config=EvaluateConfig(), main_metric="exact_match")
    check_rules(rules, task, baselines=["zero_shot", "tfidf"], suites={})
    with pytest.raises(ConfigError, match="all baselines are switched off"):
        check_rules(rules, task, baselines=["tfidf"], suites={})
    with pytest.raises(ConfigError, match="no such arm is measured"):
        check_rules(rules, task, baselines=["zero_shot"], suites={})
