"""Which step was best, by the validation loss or by a metric of the answers, and when to stop waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from tunery.train.config import TrainConfig

Point = Mapping[str, Any]
"""A point of the history, as it is stored with checkpoints."""
LOSS = "loss"
"""What ``train.best_by`` calls the validation loss."""


@dataclass(frozen=True, slots=True)
class Best:
    """Chooses among validations; of equal ones the lower loss, then the earlier step."""

    config: TrainConfig
    higher_is_better: bool = True
    """Whether the metric that ``train.best_by`` names improves upwards."""

    def step(self, history: Sequence[Point]) -> int:
        """Return the step whose weights are kept: the best; the last by ``keep`` and without validations."""
        validated = _validated(history) if self.config.keep == "best" else []
        return int(min(validated, key=self._rank)["step"] if validated else history[-1]["step"])

    def since(self, history: Sequence[Point]) -> int:
        """Return how many validations have passed without one better than all before them [count]."""
        ranks = [self._rank(point) for point in _validated(history)]
        return len(ranks) - 1 - ranks.index(min(ranks)) if ranks else 0

    def is_over(self, history: Sequence[Point]) -> bool:
        """Return whether training has waited as long for a better validation as it is to wait."""
        return self.config.early_stopping is not None and self.since(history) >= self.config.early_stopping

    def _rank(self, point: Point) -> tuple[float, ...]:
        """Return what is smallest for the best validation."""
        loss = float(point["validation_loss"])
        if self.config.best_by == LOSS:
            return (loss,)
        value = float(point["metrics"][f"validation/{self.config.best_by}"])
        return (-value if self.higher_is_better else value, loss)


class EarlyStopping(TrainerCallback):  # type: ignore[misc]
    """Ends training when validations no longer get better.

    It counts from the history, so a resume changes nothing, and must come behind what writes that.
    """

    def __init__(self, best: Best, history: Sequence[Point]) -> None:
        self._best = best
        self._history = history

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the validation just made."""
        if self._best.is_over(self._history):
            control.should_training_stop = True


def _validated(history: Sequence[Point]) -> list[Point]:
    return [point for point in history if "validation_loss" in point]
