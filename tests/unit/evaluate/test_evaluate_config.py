"""Settings refuse what could only fail hours later."""

from typing import Any

import pytest

from tunery.core.config import Settings, parse_settings
from tunery.core.errors import ConfigError
from tunery.evaluate.config import BaselineConfig, EvaluateConfig, GoalConfig
from tunery.gate.rules import GateConfig, GateRule, gate_rules

ALL = (GoalConfig, BaselineConfig, EvaluateConfig, GateRule, GateConfig)


@pytest.mark.parametrize("model", ALL)
def test_every_setting_is_explained(model: type[Settings]) -> None:
    assert model.model_fields
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (GoalConfig, {"metric": "exact_mach"}, "did you mean 'exact_match'"),
        (GoalConfig, {"min_gain_over_prompting": -0.1}, "greater than or equal to 0"),
        (GoalConfig, {"target": float("nan")}, "finite"),
        (EvaluateConfig, {"metrics": ["macro_f2", "rogue"]}, "unknown metric 'rogue'"),
        (EvaluateConfig, {"metrics": []}, "at least one"),
        (EvaluateConfig, {"json_schema": {"type": "objekt"}}, "not a JSON Schema"),
        (EvaluateConfig, {"limit": 0}, "limit"),
        (BaselineConfig, {"shots": 0}, "shots"),
        (GateRule, {"metric": "exact_match"}, "has none"),
        (GateRule, {"metric": "exact_match", "at_least": 0.1, "at_most": 0.2}, "has at_least, at_most"),
        (GateRule, {"metric": "exact_match", "at_least": 0.1, "by": 0.2}, "by goes with gain_over"),
        (
            GateRule,
            {"metric": "exact_match", "gain_over": "few_shot", "tolerance": 0.1},
            "tolerance goes with",
        ),
        (GateRule, {"metric": "rogue", "at_least": 0.1}, "unknown metric"),
        (GateRule, {"metric": "exact_match", "gain_over": "few shot"}, "gain_over"),
        (GateConfig, {"rules": ["gain over"]}, "rules read like"),
        (GateConfig, {"rules": ["exact_mach >= 0.9"]}, "did you mean .exact_match"),
        (GateConfig, {"rules": ["no worse"]}, "rules read like"),
        (GateConfig, {"rules": ["exact_match >= 0.9 with alpha >= 0.6"]}, "goes with on: human"),
        (GateRule, {"on": "human", "at_least": 4}, "needs the metric"),
        (
            GateRule,
            {"metric": "exact_match", "at_least": 0.9, "within": 0.1},
            "within goes with no_worse",
        ),
    ],
)
def test_wrong_settings_are_refused(model: type[Settings], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(model, values, where="recipe.yaml")


def test_settings_survive_being_stored() -> None:
    config = EvaluateConfig(metrics=("exact_match", "exact_match"), json_schema={"type": "object"}, limit=5)
    assert config.metrics == ("exact_match",)
    assert EvaluateConfig.model_validate(config.model_dump(mode="json")) == config
    rule = GateRule(metric="exact_match", gain_over="few_shot", by=0.1)
    assert GateRule.model_validate(rule.model_dump(mode="json", exclude_defaults=True)) == rule


def test_rules_follow_from_the_goal_where_none_are_written() -> None:
    gain = GateRule(metric="macro_f1", gain_over="best_baseline", by=0.05, significant=True)
    goal = GoalConfig(metric="macro_f1", target=0.8, min_gain_over_prompting=0.05)
    assert gate_rules(goal, GateConfig()) == (GateRule(metric="macro_f1", at_least=0.8), gain)
    assert gate_rules(goal.model_copy(update={"target": None}), GateConfig()) == (gain,)
    lower = gate_rules(GoalConfig(metric="perplexity", target=3.0), GateConfig())
    assert lower[0] == GateRule(metric="perplexity", at_most=3.0)
    written = GateConfig(rules=(GateRule(metric="exact_match", at_least=0.1),))
    assert gate_rules(goal, written) == written.rules


def test_a_rule_as_stored_whole_can_be_read_again() -> None:
    rule = GateRule(metric="exact_match", at_least=0.5)
    assert GateRule.model_validate(rule.model_dump(mode="json")) == rule
