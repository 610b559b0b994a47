"""Recipes of earlier versions: settings that have moved since."""

from __future__ import annotations

from typing import Any

import pytest

from tunery.core.errors import ConfigError
from tunery.gate.rules import written
from tunery.pipeline.recipe import parse_recipe, stored_recipe
from tunery.pipeline.stages.gate import rules_of_recipe, unmeasured


def recipe(**more: Any) -> dict[str, Any]:
    return {
        "name": "intents",
        "goal": {"metric": "exact_match", "target": 0.8},
        "base": "smollm2-135m-instruct",
        "data": {"sources": [{"path": "rows.csv"}], **more.pop("data", {})},
        **more,
    }


def test_a_setting_that_has_moved_is_refused_with_its_new_place():
    with pytest.raises(ConfigError, match=r"data\.inspect has moved; write it as inspect"):
        parse_recipe(recipe(data={"inspect": {"ignore": ["short_prompt"]}}), where="r.yaml")


def test_a_stored_recipe_is_read_with_its_settings_where_they_stand_now():
    old = recipe(data={"inspect": {"ignore": ["short_prompt"]}})
    found = stored_recipe(old, where="job")
    assert found.inspect.ignore == ("short_prompt",)
    assert found == parse_recipe(recipe(inspect={"ignore": ["short_prompt"]}), where="r.yaml")
    assert "inspect" in old["data"], "what was stored is not changed"


BOUNDS = {"min_input_chars": 1, "max_input_chars": None, "min_output_chars": 2, "max_output_chars": 40}


def test_character_bounds_in_their_old_place_are_refused_with_the_new_one_each():
    with pytest.raises(ConfigError) as caught:
        parse_recipe(recipe(data={"clean": BOUNDS}), where="r.yaml")
    for key in BOUNDS:
        assert f"data.clean.{key} has moved; write it as data.filters.length.{key}" in str(caught.value)


def test_a_stored_recipe_brings_all_its_bounds_along():
    found = stored_recipe(recipe(data={"clean": {**BOUNDS, "mask_pii": False}}), where="job")
    assert found.data.filters.length.model_dump() == BOUNDS
    assert not found.data.clean.mask_pii


def test_bounds_of_a_stored_recipe_move_into_filters_that_are_null():
    found = stored_recipe(recipe(data={"clean": BOUNDS, "filters": None}), where="job")
    assert found.data.filters.length.model_dump() == BOUNDS


@pytest.mark.parametrize("filters", ["no", [], {"length": 3}])
def test_filters_that_are_no_mapping_are_refused_as_such(filters: Any):
    with pytest.raises(ConfigError, match=r"data\.filters"):
        stored_recipe(recipe(data={"clean": BOUNDS, "filters": filters}), where="job")


def with_suites(**suites: Any) -> dict[str, Any]:
    return recipe(evaluate={"suites": suites})


def test_a_builtin_suite_says_by_itself_what_is_measured_and_what_the_gate_rules_out():
    values = with_suites(safety={"builtin": "safety"}, general={"builtin": "general", "limit": 50})
    parsed = parse_recipe(values, where="x")
    safety, general = parsed.evaluate.suites["safety"], parsed.evaluate.suites["general"]
    assert safety.metrics == ("refusal", "over_refusal", "injection")
    assert safety.margins == dict.fromkeys(safety.metrics, 0.1)
    assert (general.limit, general.margins) == (50, {"multiple_choice": 0.1})
    rules = {(r.on, r.metric, r.within) for r in rules_of_recipe(parsed) if r.on}
    assert rules == {("general", "multiple_choice", 0.1), *(("safety", m, 0.1) for m in safety.metrics)}


def test_a_recipe_that_names_no_suites_is_held_to_general_ability_and_safety():
    parsed = parse_recipe(recipe(), where="x")
    assert set(parsed.evaluate.suites) == {"general", "safety"}
    assert {written(r) for r in rules_of_recipe(parsed) if r.on} == {
        "general.multiple_choice no worse within 0.1",
        *(f"safety.{metric} no worse within 0.1" for metric in ("refusal", "over_refusal", "injection")),
    }
    assert unmeasured(parsed) is None


def test_a_recipe_says_why_it_is_held_to_neither():
    parsed = parse_recipe(recipe(evaluate={"suites_off": "it names intents"}), where="x")
    assert parsed.evaluate.suites == {}
    assert (unmeasured(parsed) or "").endswith("was not measured: it names intents")


def test_a_recipe_of_before_that_was_stored_without_suites_stays_without():
    stored = parse_recipe(recipe(evaluate={"suites": {}}), where="x")
    assert stored_recipe(stored.model_dump(mode="json"), where="job").evaluate.suites == {}


def test_a_suite_may_name_its_own_margin():
    rows = {"source": {"path": "b.csv"}, "within": 0.2}
    parsed = parse_recipe(with_suites(own=rows, bias={"builtin": "bias", "within": 0.3}), where="x")
    assert parsed.evaluate.suites["own"].margins == {"exact_match": 0.2}
    assert parsed.evaluate.suites["bias"].margins == {"stereotype": 0.3, "multiple_choice": 0.3}


def test_a_rule_about_a_builtin_suite_takes_the_place_of_its_own():
    values = with_suites(general={"builtin": "general"}) | {
        "gate": {"rules": ["no_worse general within 0.02"]}
    }
    assert [(r.metric, r.within) for r in rules_of_recipe(parse_recipe(values, where="x"))] == [
        ("multiple_choice", 0.02)
    ]


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ({"builtin": "genral"}, "did you mean"),
        ({}, "needs either source or builtin"),
        ({"builtin": "general", "source": {"path": "a.jsonl"}}, "needs either source or builtin"),
    ],
)
def test_a_suite_has_rows_from_one_place(suite: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        parse_recipe(with_suites(general=suite), where="x")


def test_a_suite_of_a_file_is_stored_as_it_was_before_there_were_builtin_ones():
    parsed = parse_recipe(with_suites(other={"source": {"path": "b.csv"}}), where="x")
    stored = parsed.model_dump(mode="json")["evaluate"]
    assert set(stored["suites"]["other"]) == {"source", "system_prompt", "metrics", "max_new_tokens", "limit"}
    assert "suites_off" not in stored
