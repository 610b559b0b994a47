"""Every shipped recipe loads, and its files are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunery.core.errors import ConfigError
from tunery.pipeline.recipe import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {p.stem for p in RECIPES} >= {"banking77", "banking77-quick", "receipts"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_shipped_recipe_loads_and_its_files_exist(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    for source in recipe.data.sources:
        assert (path.parent / source.path).is_file()


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_shipped_recipe_has_a_gate_that_asks_for_more_than_prompting(path: Path) -> None:
    rules = load_recipe(path).gate.rules
    assert any(r.gain_over == "best_baseline" and r.significant for r in rules)


def test_all_mistakes_are_told_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    text = RECIPES[0].read_text(encoding="utf-8") + "\ntrian: {rank: 4}\n"
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_recipe(tmp_path / "r.yaml", ["train.learning_rate=-1", "train.epohcs=3"])
    message = caught.value.message
    assert "trian: unknown setting; did you mean 'train'?" in message
    assert "train.epohcs: unknown setting; did you mean 'epochs'?" in message
    assert "train.learning_rate" in message


def test_a_key_given_twice_is_an_error_with_both_lines(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: a\nbase: b\nname: c\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 3: key 'name' is given twice \(first on line 1\)"):
        load_recipe(tmp_path / "r.yaml")


def test_an_override_reaches_into_lists() -> None:
    quick = next(p for p in RECIPES if p.stem == "banking77-quick")
    recipe = load_recipe(quick, ["data.sources[0].limit_per_class=26", "train.target_modules=[q_proj]"])
    assert recipe.data.sources[0].limit_per_class == 26
    assert recipe.train.target_modules == ("q_proj",)


@pytest.mark.parametrize("override", ["data.sources[7].limit=1", "nonsense", "name.x=1", "data.sources.x=1"])
def test_an_override_that_leads_nowhere_is_an_error(override: str) -> None:
    with pytest.raises(ConfigError):
        load_recipe(RECIPES[0], [override])


def test_a_bare_off_means_off_although_yaml_reads_it_as_false() -> None:
    assert load_recipe(RECIPES[0], ["data.clean.near_duplicates=off"]).data.clean.near_duplicates == "off"


def test_an_override_that_is_no_yaml_says_so() -> None:
    with pytest.raises(ConfigError, match="is not YAML; put it in quotes"):
        load_recipe(RECIPES[0], ["data.sources[0].delimiter=,"])
