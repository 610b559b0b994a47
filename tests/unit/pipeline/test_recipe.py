"""Recipes of earlier versions: settings that have moved since."""

from __future__ import annotations

from typing import Any

import pytest

from tunery.core.errors import ConfigError
from tunery.pipeline.recipe import parse_recipe, stored_recipe


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
