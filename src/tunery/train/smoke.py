"""A training of a few rows before the real one: what is set up wrongly shows within a minute.

A model that cannot learn forty rows by heart will not learn ten thousand. The longest row is among them, so
that what does not fit into memory is known, too.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from tunery.core.errors import ConfigError
from tunery.core.figures import counted
from tunery.core.progress import ProgressBar
from tunery.train.budget import SMOKE_MOST_S, SMOKE_PASSES
from tunery.train.config import TrainConfig
from tunery.train.fitting import Fitting
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.ranks import ALONE, Team
from tunery.train.reporting import Reporting
from tunery.train.section import method_of
from tunery.train.trainer import PackedTrainer, training_arguments

_LEARNT = 0.9
"""Share of the loss at the start under which what was learnt is clear."""


def smoke_run(  # noqa: PLR0913 - what a training consists of
    model: nn.Module,
    rows: Sequence[TrainingRow],
    *,
    config: TrainConfig,
    device: torch.device,
    fitting: Fitting,
    reporting: Reporting,
    team: Team = ALONE,
) -> None:
    """Train on a few rows at the settings' learning rate, and see that their loss falls.

    Args:
        model: As the real training would begin with; it is changed.
        rows: :func:`tunery.train.budget.smoke_rows`, with their reference where the method needs one.
        config: Of the real training.
        device: Where to train.
        fitting: Bounds forwards; what does not fit is divided for the real training, too.
        reporting: Who hears of it and may stop it.
        team: Ranks among which the model is divided.

    Raises:
        ConfigError: The loss did not fall: the real training would not learn.
        ResourceError: A row alone does not fit into memory.
        KeyboardInterrupt: It was asked to stop.
    """
    whole = TrainingRows(rows, [])
    steps = SMOKE_PASSES * math.ceil(len(rows) / config.batch_size)
    with tempfile.TemporaryDirectory() as folder, reporting.progress.task("smoke run", steps) as bar:
        arguments = training_arguments(config, Path(folder), device=device, rows=whole)
        arguments.max_steps, arguments.save_strategy = steps, "no"
        arguments.lr_scheduler_type, arguments.warmup_steps = "constant", 0
        watched = _Watched(reporting, bar, team)
        objective = method_of(config).objective(config)
        PackedTrainer(model, objective, arguments, whole, [watched], fitting=fitting, team=team).train()
    if team.any(reporting.should_stop()):
        raise KeyboardInterrupt
    a_pass = steps // SMOKE_PASSES
    if len(watched.losses) < 2 * a_pass:
        reporting.progress.event(f"smoke run: cut short after {watched.seconds:.0f} s")
        return
    before, after = (sum(some) / a_pass for some in (watched.losses[:a_pass], watched.losses[-a_pass:]))
    what = (
        f"{counted(len(watched.losses), 'step')} on {counted(len(rows), 'row')} took the loss from "
        f"{before:.3f} to {after:.3f}"
    )
    if not after < before:
        raise ConfigError(
            f"smoke run: {what}; the whole training would not learn either",
            hint=f"train.learning_rate={config.learning_rate / 10:g}; tunery train preflight RECIPE shows "
            "which tokens are trained; train.smoke=false trains nevertheless",
        )
    slowly = "" if after < _LEARNT * before else "; it learns slowly: train.learning_rate may be too low"
    reporting.progress.event(f"smoke run: {what}{slowly}", level="warn" if slowly else "info")


class _Watched(TrainerCallback):  # type: ignore[misc]
    """Keeps the losses, moves the bar, and ends the run where its time is over or somebody asks."""

    def __init__(self, reporting: Reporting, bar: ProgressBar, team: Team) -> None:
        self.reporting = reporting
        self.team = team
        self.bar = bar
        self.losses: list[float] = []
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.advance()
        if self.team.any(self.seconds > SMOKE_MOST_S or self.reporting.should_stop()):
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))
