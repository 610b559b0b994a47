"""The ``train`` section of a recipe: the settings of whichever method it names."""

from __future__ import annotations

from typing import Annotated

from tunery.core.plugins import load_plugin, plugin_names
from tunery.core.variants import Variants
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingMethod

METHODS = "tunery.train.methods"
"""Package with one file for each method."""
DEFAULT_METHOD = "sft"
"""The method of recipes and stored adapters that name none."""


def training_methods() -> dict[str, TrainingMethod]:
    """Return every method there is, by its name."""
    modules = (load_plugin(METHODS, "training method", name) for name in plugin_names(METHODS))
    return {module.METHOD.name: module.METHOD for module in modules}


def method_named(name: str | None) -> TrainingMethod | None:
    """Return the method that a stored adapter or job names; None where its file is gone."""
    return training_methods().get(name or DEFAULT_METHOD)


def method_of(config: TrainConfig) -> TrainingMethod:
    """Return the method that settings belong to."""
    return training_methods()[config.method]


def default_train_config() -> TrainConfig:
    """Return the settings of a recipe without a ``train`` section."""
    return training_methods()[DEFAULT_METHOD].defaults


TrainSection = Annotated[
    TrainConfig,
    Variants(
        "training method",
        key="method",
        find=lambda: {name: method.config for name, method in training_methods().items()},
        default=DEFAULT_METHOD,
    ),
]
"""Train settings, validated by the method that they name."""
