"""What looks on while the Trainer trains: reports, seals checkpoints, stops, keeps to free cores."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunery.core.progress import ProgressBar
from tunery.model.threads import Threads
from tunery.train import checkpoints
from tunery.train.fitting import Fitting
from tunery.train.kept import keep_step
from tunery.train.ranks import ALONE, Team
from tunery.train.recorder import Recorder
from tunery.train.reporting import Reporting


def goes_on(step: int, steps: int) -> str:
    """Return the sentence of a training that ends before its last step."""
    return f"the checkpoint of step {step} of {steps} is kept, and the same command continues from there"


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Reports steps, seals checkpoints, stops on request."""

    def __init__(  # noqa: PLR0913 - what a training consists of
        self,
        reporting: Reporting,
        bar: ProgressBar,
        *,
        seconds_before: float,
        history: list[dict[str, Any]],
        fitting: Fitting,
        recorder: Recorder | None,
        team: Team = ALONE,
    ) -> None:
        self.reporting = reporting
        self.team = team
        self.bar = bar
        self.fitting = fitting
        self.recorder = recorder
        self.seconds_before = seconds_before
        self.history = history
        self.started = time.monotonic()
        self.stopping = False

    @property
    def seconds(self) -> float:
        """Training time so far, earlier processes included [s]."""
        return self.seconds_before + time.monotonic() - self.started

    def asked(self) -> bool:
        """Tell whether somebody asked to stop; the next checkpoint then ends training."""
        self.stopping = self.stopping or self.reporting.should_stop()
        return self.stopping

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar; evaluate and save at the last step; save and stop on request."""
        self.bar.advance()
        if state.global_step >= state.max_steps:
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = True
        self.stopping = self.team.any(self.asked())
        if self.stopping:
            control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Record one point and report it."""
        state.log_history.clear()  # the history is ours; the Trainer's would lie in every checkpoint again
        point: dict[str, Any] = {
            "step": state.global_step,
            "epoch": state.epoch or 0.0,
            "seconds": self.seconds,
        }
        names = {"loss": "train_loss", "eval_loss": "validation_loss"}
        kept = ("loss", "eval_loss", "learning_rate", "grad_norm")
        point |= {names.get(k, k): float(v) for k, v in logs.items() if k in kept}
        if not {"train_loss", "validation_loss"} & point.keys():
            return
        if measured := {name: float(value) for name, value in logs.items() if "/" in name}:
            point["metrics"] = measured
        self.history.append(point)
        self.reporting.on_point(point)
        data = {k: v for k, v in point.items() if k != "seconds"} | {"total_steps": state.max_steps}
        loss = (
            f"training loss={point['train_loss']:.4f}"
            if "train_loss" in point
            else f"validation loss={point['validation_loss']:.4f}"
        )
        self.reporting.progress.event(f"Step {state.global_step}/{state.max_steps}: {loss}", data=data)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seal the checkpoint just written."""
        if self.recorder is not None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._seal(folder, self.recorder)
            self._keep(folder, state.global_step, args.save_steps, state.max_steps)
            metrics = {k: v for point in self.history[-2:] for k, v in point.items() if k.endswith("_loss")}
            self.reporting.on_checkpoint(state.global_step, metrics)
        if self.stopping:
            raise KeyboardInterrupt(goes_on(state.global_step, state.max_steps))

    def _keep(self, folder: Path, step: int, every: int, steps: int) -> None:
        """Keep a checkpoint's adapter, where that is wanted; not of one that a stop has brought about."""
        config = self.fitting.config
        if config.keep_checkpoints is not None and (step % every == 0 or step >= steps):
            keep_step(folder, step, folder.parent, config.most_kept)

    def _seal(self, folder: Path, recorder: Recorder) -> None:
        recorder.sync()
        kept = {"seconds": self.seconds, "history": self.history, "ranks": self.team.size}
        text = json.dumps({**kept, **self.fitting.state})
        (folder / "history.json").write_text(text, encoding="utf-8")
        checkpoints.seal(folder)


class ThreadKeeper(TrainerCallback):  # type: ignore[misc]
    """Keeps to the cores that other processes leave, looked at between steps."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the machine."""
        self.threads.adapt()
