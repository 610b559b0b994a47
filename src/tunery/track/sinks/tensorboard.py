"""TensorBoard: event files that ``tensorboard --logdir`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunery.core.config import Settings
from tunery.track.sinks.sink import SinkKind, Status, TrackedRun


class TensorboardSettings(Settings):
    """Writes each run's metrics as event files of TensorBoard."""

    folder: str | None = None
    """Where runs get a folder each; by default ``track`` in Tunery's home."""


class _Tensorboard:
    def __init__(self, settings: TensorboardSettings, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = Path(settings.folder) / run.id if settings.folder else run.folder / "tensorboard"
        self._writer: Any = SummaryWriter(str(folder))
        self.tag(run.tags)
        rows = "\n".join(f"| {name} | {value} |" for name, value in run.parameters.items())
        self._writer.add_text("parameters", f"| setting | value |\n| --- | --- |\n{rows}")
        self._writer.flush()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def tag(self, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self._writer.add_text(name, value)

    def file(self, path: Path) -> None:
        """Do nothing: event files hold numbers and texts."""

    def close(self, status: Status) -> None:
        self._writer.add_text("status", status)
        self._writer.close()


SINK = SinkKind("TensorBoard", TensorboardSettings, _Tensorboard, extra="tensorboard")
