"""A dataset version's splits as the rows that training gets; preflight and plan look at these very rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tunery.core.example import Example
from tunery.model.tokenizer import ChatTokenizer
from tunery.train.config import TrainConfig
from tunery.train.methods.method import TrainingRow
from tunery.train.section import method_of


class TrainingExamples(NamedTuple):
    """The splits that training uses."""

    train: Sequence[Example]
    validation: Sequence[Example]


class TrainingRows(NamedTuple):
    """The same, tokenised row by row."""

    train: Sequence[TrainingRow]
    """At least one."""
    validation: Sequence[TrainingRow]
    """For the validation loss; may be empty, then the last step counts as the best."""


def training_rows(config: TrainConfig, tokenizer: ChatTokenizer, examples: TrainingExamples) -> TrainingRows:
    """Tokenise both splits as the settings' method wants them.

    Raises:
        ConfigError: Examples are not of the shape that the method takes, or cannot be rendered.
    """
    method = method_of(config)
    method.check([*examples.train, *examples.validation])
    objective = method.objective(config)
    return TrainingRows(
        objective.rows(tokenizer, examples.train, split="train"),
        objective.rows(tokenizer, examples.validation, split="validation"),
    )
