"""Rules as sentences: what they mean, and that what is written of a rule is read as the same rule."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunery.evaluate.config import GoalConfig
from tunery.gate.rules import GateConfig, GateRule, gate_rules, read_rule, written

MEANINGS: dict[str, dict[str, Any]] = {
    "exact_match >= 0.9": {"metric": "exact_match", "at_least": 0.9},
    "exact_match>=90%": {"metric": "exact_match", "at_least": 0.9},
    "perplexity <= 3.5": {"metric": "perplexity", "at_most": 3.5},
    "exact_match >= 0.9 (ci)": {"metric": "exact_match", "at_least": 0.9, "ci": True},
    "field_match.total >= 95 %": {"metric": "field_match.total", "at_least": 0.95},
    "general.accuracy >= 0.5": {"metric": "accuracy", "on": "general", "at_least": 0.5},
    "gain over best_prompt >= 0.05 (ci)": {"gain_over": "best_prompt", "by": 0.05, "ci": True},
    "gain over few_shot": {"gain_over": "few_shot"},
    "gain over few-shot prompting": {"gain_over": "few_shot"},
    "gain over zero-shot, constrained >= 5 %": {"gain_over": "zero_shot_constrained", "by": 0.05},
    "gain over Few-shot, nearest examples, held to the labels (shown)": {
        "gain_over": "few_shot_retrieved_constrained",
        "significant": True,
    },
    "no worse than TF-IDF with logistic regression within 0.01": {"no_worse_than": "tfidf", "within": 0.01},
    "macro_f1 gain over champion >= 2 points (shown)": {
        "metric": "macro_f1",
        "gain_over": "champion",
        "by": 0.02,
        "significant": True,
    },
    "no_worse general within 0.02": {"no_worse_than": "base", "on": "general", "within": 0.02},
    "no worse on general within 2 points": {"no_worse_than": "base", "on": "general", "within": 0.02},
    "safety.refusal no worse": {"metric": "refusal", "on": "safety", "no_worse_than": "base"},
    "no worse than champion within 0.01": {"no_worse_than": "champion", "within": 0.01},
    "accuracy no worse than start within 1 point": {
        "metric": "accuracy",
        "no_worse_than": "start",
        "within": 0.01,
    },
    "human.accuracy >= 4.2 with alpha >= 0.6": {
        "metric": "accuracy",
        "on": "human",
        "at_least": 4.2,
        "agreement": 0.6,
    },
}


@pytest.mark.parametrize("sentence", MEANINGS)
def test_a_sentence_means_its_settings_and_is_written_again(sentence: str) -> None:
    assert read_rule(sentence) == MEANINGS[sentence]
    rule = GateConfig.model_validate({"rules": [sentence]}).rules[0]
    assert rule == GateRule.model_validate(MEANINGS[sentence])
    assert GateRule.model_validate(written(rule)) == rule
    assert GateRule.model_validate(rule.model_dump(mode="json", exclude_defaults=True)) == rule


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "exact_match",
        "exact_match > 0.9",
        "gain",
        "no worse",
        "exact_match >= high",
        "drop table x",
        "a" * 9999,
    ],
)
def test_what_is_no_rule_is_refused_with_examples(sentence: str) -> None:
    with pytest.raises(ValueError, match="rules read like: exact_match"):
        read_rule(sentence)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert read_rule(text)


def test_rules_without_a_metric_are_about_the_goal_or_the_suites_first() -> None:
    gate = GateConfig.model_validate({"rules": ["gain over few_shot", "no_worse general within 0.02"]})
    gain, general, safety = gate_rules(
        GoalConfig(metric="macro_f1"), gate, {"general": {"choice": 0.05}, "safety": {"refusal": 0.05}}
    )
    assert (gain.metric, general.metric) == ("macro_f1", "choice")
    assert safety == GateRule(metric="refusal", on="safety", no_worse_than="base", within=0.05)


def test_rules_of_earlier_recipes_are_stored_as_they_were() -> None:
    stored = GateRule(metric="exact_match", gain_over="few_shot", by=0.1).model_dump(mode="json")
    assert stored == {
        "metric": "exact_match",
        "at_least": None,
        "at_most": None,
        "gain_over": "few_shot",
        "by": 0.1,
        "significant": False,
        "no_regression_on": None,
        "tolerance": 0.0,
    }
    assert GateConfig().model_dump(mode="json") == {"rules": []}
