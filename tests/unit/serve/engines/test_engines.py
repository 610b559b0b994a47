"""Which engine settings mean, and that reading them computes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tunery.api.config import ServerSettings
from tunery.core.errors import ConfigError
from tunery.core.plugins import load_plugin, plugin_names
from tunery.pipeline.recipe import parse_recipe
from tunery.serve import engines
from tunery.serve.engines import EngineSettings, engine_settings
from tunery.serve.engines.embedded.settings import EmbeddedSettings

RECIPE = {"name": "a", "goal": {}, "base": "b", "data": {"sources": [{"path": "rows.csv"}]}}


@pytest.mark.parametrize("name", plugin_names(engines.__name__))
def test_the_kind_of_an_engines_settings_is_the_name_of_its_file(name: str) -> None:
    settings = load_plugin(engines.__name__, "engine", name).SETTINGS
    assert issubclass(settings, EngineSettings)
    assert settings.model_fields["kind"].default == name


def test_settings_without_a_kind_are_those_of_the_embedded_engine() -> None:
    assert engine_settings() == EmbeddedSettings()
    assert engine_settings({"max_batch": 3}) == EmbeddedSettings(max_batch=3)
    server = ServerSettings.model_validate({"engine": {"device": "cpu"}})
    assert server.engine == EmbeddedSettings(device="cpu")
    assert ServerSettings().engine == EmbeddedSettings()


def test_settings_of_an_engine_survive_being_stored() -> None:
    values = {**RECIPE, "evaluate": {"engine": {"threads": 2, "dtype": "bfloat16"}}}
    recipe = parse_recipe(values, where="recipe")
    assert recipe.evaluate.engine == EmbeddedSettings(threads=2, dtype="bfloat16")
    assert parse_recipe(json.loads(recipe.model_dump_json()), where="stored") == recipe


def test_answers_depend_on_the_number_format_and_not_on_memory_or_place() -> None:
    here = EmbeddedSettings(device="cpu", max_batch=1, max_cache_tokens=64, prefix_cache_bytes=0, threads=1)
    assert here.identity == EmbeddedSettings().identity
    assert EmbeddedSettings(dtype="float16").identity != EmbeddedSettings().identity


@pytest.mark.parametrize(
    "kind", ["embeded", "", "..", "embedded.engine", "__init__", "os", 3, None, ["embedded"]]
)
def test_a_kind_that_is_no_engine_is_an_error_and_is_never_imported(kind: object) -> None:
    before = set(sys.modules)
    with pytest.raises(ConfigError, match="no engine named"):
        parse_recipe({**RECIPE, "evaluate": {"engine": {"kind": kind}}}, where="recipe")
    assert set(sys.modules) == before


def test_reading_a_server_config_and_a_recipe_loads_nothing_that_computes(tmp_path: Path) -> None:
    code = """
import sys
from tunery.api.config import ServerSettings
from tunery.pipeline.recipe import parse_recipe
ServerSettings.model_validate({"engine": {"kind": "embedded"}})
print(sorted(set(sys.modules) & {"torch", "transformers", "llguidance", "safetensors"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"
