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
