"""A training that diverges stops at once, says which rows it was at, and leaves a checkpoint from before.

It diverges where a loss or the norm of the gradients is no number; or where the loss of :data:`IN_A_ROW`
steps in a row is above ``divergence_factor`` times the median of the :data:`WINDOW` steps before them, and
above the median of the first :data:`FIRST` steps: a loss that is merely uneven does not stay above where it
began.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from transformers import TrainerCallback

from tunery.core.errors import DivergedError
from tunery.core.figures import number
from tunery.train import checkpoints
from tunery.train.best import Best, Point
from tunery.train.recorder import Recorder

IN_A_ROW = 5
"""Steps [count]."""
WINDOW = 50
"""Steps [count]."""
FIRST = 5
"""Steps [count]."""
_FEWEST = 2 * FIRST
"""Steps before the first that may count [count]."""


class Verdict(NamedTuple):
    """What is wrong with the losses so far."""

    since: int
    """First step that was computed with weights that are no good."""
    reason: str
    """What happened, as the end of a sentence."""


class Losses:
    """The losses of a training, step by step.

    Args:
        factor: How far a loss may rise; None never minds.
        history: Points of the steps that are over.
    """

    def __init__(self, factor: float | None, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self._factor = factor
        self._calm: list[float] = []  # of the steps that were not too high
        self._high: list[float] = []  # of the last ones, in a row, that were
        for point in history:
            if "train_loss" in point:
                self.add(int(point["step"]), float(point["train_loss"]))

    @property
    def calm(self) -> bool:
        """Whether the last step's loss was not too high."""
        return not self._high

    def add(self, step: int, loss: float) -> Verdict | None:
        """Take in a step's loss [nats]; return what is wrong, None while nothing is."""
        if not math.isfinite(loss):
            return Verdict(step, f"the training loss became {loss} at step {step}")
        bound = self._bound()
        if loss <= bound:
            self._calm += [*self._high, loss]
            self._high = []
            return None
        self._high.append(loss)
        if len(self._high) < IN_A_ROW:
            return None
        usual = median(self._calm[-WINDOW:])
        return Verdict(
            step - IN_A_ROW + 1,
            f"the training loss rose to {number(loss)} by step {step}, from a median of {number(usual)} in "
            f"the {len(self._calm[-WINDOW:])} steps before step {step - IN_A_ROW + 1}",
        )

    def _bound(self) -> float:
        if self._factor is None or len(self._calm) < _FEWEST:
            return math.inf
        return max(self._factor * median(self._calm[-WINDOW:]), median(self._calm[:FIRST]))


class Guard(TrainerCallback):  # type: ignore[misc]
    """Stops a training that diverges; decides which checkpoints are kept.

    A checkpoint's weights are known to be good once the step behind it has a loss that is not too high; until
    then those before it are kept too.

    Args:
        config: Of the training.
        folder: Of the checkpoints.
        recorder: Knows the rows of the last step.
        history: Points of the steps that are over.
    """

    def __init__(self, best: Best, folder: Path, recorder: Recorder, history: Sequence[Point]) -> None:
        self._best = best
        self._config = best.config
        self._history = history
        self._folder = folder
        self._recorder = recorder
        self._losses = Losses(best.config.divergence_factor, history)
        self._trusted = set(checkpoints.steps_in(folder))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Look at what a step or a validation gave."""
        step = state.global_step
        if "eval_loss" in logs and not math.isfinite(logs["eval_loss"]):
            self._stop(
                step, Verdict(step + 1, f"the validation loss became {logs['eval_loss']} at step {step}")
            )
        if "loss" not in logs:
            return
        wrong = self._losses.add(step, logs["loss"])
        if wrong is None and not math.isfinite(logs.get("grad_norm", 0.0)):
            wrong = Verdict(step + 1, f"the gradients became {logs['grad_norm']} at step {step}")
        if wrong is not None:
            self._stop(step, wrong)
        if self._losses.calm and step - 1 in checkpoints.steps_in(self._folder):
            self._trusted = {step - 1, self._best.step(self._history)}
            checkpoints.keep_only(self._folder, self._trusted)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let go of checkpoints that are neither the new one nor known to be good."""
        checkpoints.keep_only(self._folder, {*self._trusted, state.global_step})

    def _stop(self, step: int, wrong: Verdict) -> None:
        checkpoints.keep_only(
            self._folder, {s for s in checkpoints.steps_in(self._folder) if s < wrong.since - 1}
        )
        path = self._write_batch(step, wrong)
        kept = max(checkpoints.steps_in(self._folder), default=None)
        left = "no checkpoint is from before it" if kept is None else f"the checkpoint of step {kept} is kept"
        raise DivergedError(
            f"{wrong.reason}: the model diverged; {left}, and the rows of the step are in {path}",
            hint=f"train.learning_rate={self._config.learning_rate / 10:g}",
            step=step,
        )

    def _write_batch(self, step: int, wrong: Verdict) -> Path:
        """Write the rows of the last step, with all that the model read of them."""
        losses = {row.id: row for row in self._recorder.read().of_step(step)}
        rows = [
            {
                "id": row.id,
                "loss": _json(losses[row.id].loss) if row.id in losses else None,
                "share": _json(losses[row.id].share) if row.id in losses else None,
                "sequences": [{"ids": s.ids, "mask": s.mask} for s in row.sequences],
            }
            for row in self._recorder.last
        ]
        path = self._folder / f"diverged-at-step-{step}.json"
        text = json.dumps({"step": step, "reason": wrong.reason, "rows": rows})
        path.write_text(text, encoding="utf-8")
        return path


def _json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
