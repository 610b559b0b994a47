"""Settings that are left to ``auto``: the rules' figures, their bounds, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tunery.core.errors import ConfigError
from tunery.model.render import Rendered
from tunery.model.shape import BaseShape
from tunery.pipeline.recipe import parse_recipe
from tunery.train.auto import choose
from tunery.train.config import AUTO_BOUNDS, TrainConfig, identity_settings
from tunery.train.methods.method import TrainingRow
from tunery.train.section import training_methods

ALL = ("batch_size", "epochs", "learning_rate", "rank")
SMOLLM2 = BaseShape(
    parameters=134_515_008,
    layers=30,
    hidden=576,
    intermediate=1536,
    attention=576,
    key_value=192,
    vocabulary=49_152,
    tied=True,
)
LLAMA_8B = BaseShape(
    parameters=8_030_261_248,
    layers=32,
    hidden=4096,
    intermediate=14_336,
    attention=4096,
    key_value=1024,
    vocabulary=128_256,
    tied=False,
)


def _rows(count: int, trained: int, prompt: int = 10) -> list[TrainingRow]:
    ids = tuple(range(prompt + trained))
    mask = (0,) * prompt + (1,) * trained
    row = TrainingRow((Rendered(ids=ids, mask=mask, turn=1, prompt_tokens=prompt),))
    return [row] * count


def _config(**values: Any) -> TrainConfig:
    method = values.setdefault("method", "sft")
    return training_methods()[method].config.model_validate({**dict.fromkeys(ALL, "auto"), **values})


@pytest.mark.parametrize(
    ("settings", "rows", "trained", "shape", "expected"),
    [
        ({}, 770, 5, SMOLLM2, {"batch_size": 8, "epochs": 4, "learning_rate": 9.3e-4, "rank": 16}),
        ({}, 2_000, 5, SMOLLM2, {"batch_size": 8, "epochs": 3, "learning_rate": 9.3e-4, "rank": 16}),
        ({}, 20, 5, SMOLLM2, {"batch_size": 4, "epochs": 8, "learning_rate": 6.6e-4, "rank": 16}),
        ({}, 52_000, 80, LLAMA_8B, {"batch_size": 64, "epochs": 1, "learning_rate": 2.9e-4, "rank": 16}),
        ({}, 400_000, 100, SMOLLM2, {"batch_size": 64, "epochs": 1, "learning_rate": 1.3e-3, "rank": 128}),
        ({"adapter": "none"}, 2_000, 5, SMOLLM2, {"learning_rate": 9.3e-5}),
        ({"alpha": 16}, 2_000, 5, SMOLLM2, {"learning_rate": 1.9e-3}),
        ({"adapter": "rslora"}, 2_000, 5, SMOLLM2, {"learning_rate": 2.3e-4}),
        ({"method": "dpo"}, 341, 60, SMOLLM2, {"batch_size": 8, "epochs": 1, "learning_rate": 4.9e-4}),
        ({"method": "dpo"}, 40, 60, SMOLLM2, {"batch_size": 4, "epochs": 3, "learning_rate": 5.2e-4}),
        ({"method": "dpo"}, 60_000, 200, LLAMA_8B, {"batch_size": 64, "epochs": 1, "learning_rate": 2.9e-5}),
    ],
)
def test_what_the_rules_give(
    settings: dict[str, Any], rows: int, trained: int, shape: BaseShape, expected: Mapping[str, float]
) -> None:
    found = choose(_config(**settings), _rows(rows, trained), shape)
    assert {name: found.values[name] for name in expected} == expected
    assert found.config.auto == ()
    assert all(getattr(found.config, name) == value for name, value in found.values.items())
    for name, (least, most) in AUTO_BOUNDS.items():
        assert least <= found.values[name] <= most


def test_a_chosen_number_trains_the_same_adapter_as_one_that_was_written() -> None:
    found = choose(_config(), _rows(770, 5), SMOLLM2)
    written = _config(**found.values)
    assert written.auto == ()
    assert identity_settings(found.config) == identity_settings(written)
    with pytest.raises(RuntimeError, match="chosen before"):
        identity_settings(_config())


def test_only_what_is_left_open_is_chosen() -> None:
    config = training_methods()["sft"].config.model_validate({"epochs": "auto", "batch_size": 32})
    found = choose(config, _rows(770, 5), SMOLLM2)
    assert found.values == {"epochs": 4}
    assert found.config.batch_size == 32
    assert found.config.learning_rate == config.learning_rate
    assert "epochs 4 (of 770 rows with 3,850 trained tokens" in found.sentence


def test_the_batch_stays_a_multiple_of_the_micro_batch() -> None:
    found = choose(_config(micro_batch_size=6), _rows(770, 5), SMOLLM2)
    assert found.config.batch_size == 12


def _train_section(train: dict[str, Any]) -> TrainConfig:
    recipe = {
        "name": "r",
        "goal": {"metric": "exact_match", "target": 0.5},
        "base": "tiny",
        "data": {"sources": [{"path": "a.jsonl"}]},
        "train": train,
    }
    return parse_recipe(recipe, where="recipe").train


def test_both_spellings_say_the_same_and_are_kept_in_a_stored_recipe() -> None:
    one = _train_section({"epochs": "auto", "rank": "auto"})
    other = _train_section({"auto": ["epochs", "rank"]})
    assert one == other
    assert one.auto == ("epochs", "rank")
    assert _train_section(one.model_dump(mode="json")) == one
    full = _train_section({"adapter": "none", "learning_rate": "auto"})
    assert _train_section(full.model_dump(mode="json")) == full


@pytest.mark.parametrize("how", [{"rank": "auto"}, {"auto": ["rank"]}])
def test_an_earlier_training_shares_the_open_rank(how: dict[str, Any]) -> None:
    config = _train_section({"method": "dpo", **how, "start_from": {"method": "sft"}})
    assert config.start_from is not None
    assert config.start_from.auto == ("rank",)


@pytest.mark.parametrize(
    "train",
    [
        {"auto": ["dropout"]},
        {"dropout": "auto"},
        {"epochs": "automatic"},
        {"auto": 5, "start_from": {"method": "sft"}},
        {"auto": True, "method": "dpo", "start_from": {"method": "sft"}},
        {"auto": [["rank"]], "rank": "auto"},
        {"auto": [1, "rank"], "epochs": "auto"},
    ],
)
def test_what_no_rule_chooses_is_refused(train: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"train\."):
        _train_section(train)


@pytest.mark.parametrize(("mine", "earlier"), [("auto", 16), (16, "auto")])
def test_a_rank_that_one_training_names_is_not_left_open_by_the_other(mine: Any, earlier: Any) -> None:
    train = {"method": "dpo", "rank": mine, "start_from": {"method": "sft", "rank": earlier}}
    with pytest.raises(ConfigError, match=r"start_from\.rank is .* and rank .*both train one adapter"):
        _train_section(train)


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 1e-5), ("epochs", 2), ("rank", 8)])
def test_a_number_beside_auto_is_refused_and_not_passed_over(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value:g}, and auto lists it; leave one"):
        _train_section({"auto": [name], name: value})
