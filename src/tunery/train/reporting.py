"""Who a training reports to, and who may stop it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.progress import Progress


class Measure(NamedTuple):
    """How answers of the model in training are judged."""

    run: Callable[[Path], Mapping[str, float]]
    """Given the folder of what was trained so far, returns metrics by name."""
    higher_is_better: bool
    """Whether the metric that ``train.best_by`` names improves upwards."""


class Reporting(NamedTuple):
    """Who hears of training's progress and may stop it."""

    progress: Progress
    should_stop: Callable[[], bool] = lambda: False
    """Called after every forward of training; True ends it with :class:`KeyboardInterrupt`."""
    on_checkpoint: Callable[[int, Mapping[str, float]], None] = lambda step, losses: None
    """Called with the step and the losses of every checkpoint that is complete on disk."""
    measure: Measure | None = None
    """Judges answers at each validation, where that is wanted."""
    on_point: Callable[[Mapping[str, Any]], None] = lambda point: None
    """Called with every point of the history as it is measured."""
