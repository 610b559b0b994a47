"""Weights & Biases, offline where nothing else is set: ``wandb sync`` sends what lies there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tunery.core.config import Settings
from tunery.track.sinks.sink import SinkKind, Status, TrackedRun

_EXIT_CODE = {"finished": 0, "failed": 1, "stopped": 255}


class WandbSettings(Settings):
    """Writes each run to Weights & Biases; the key comes from WANDB_API_KEY, never from here."""

    project: str | None = None
    """Project that runs are filed under; by default the recipe's name."""
    entity: str | None = None
    """Team or user that the project belongs to; by default the key's own."""
    mode: Literal["offline", "online"] = "offline"
    """``offline`` writes files for ``wandb sync``; ``online`` sends them while the run goes on."""


class _Wandb:
    def __init__(self, settings: WandbSettings, run: TrackedRun) -> None:
        import wandb

        self._run = wandb.init(
            project=settings.project or run.name,
            entity=settings.entity,
            mode=settings.mode,
            id=run.id,
            name=f"{run.name} {run.id[-8:]}",
            resume="allow",
            dir=str(run.folder),
            config={**run.parameters, **run.tags},
            # What the process prints, and the code it stands in, are none of the tracker's business.
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, disable_job_creation=True
            ),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step:
            self._run.log(dict(metrics), step=step)
        else:
            self._run.summary.update(dict(metrics))

    def tag(self, tags: Mapping[str, str]) -> None:
        self._run.summary.update(dict(tags))

    def file(self, path: Path) -> None:
        kept = Path(self._run.dir) / path.name
        if path.is_dir():
            shutil.copytree(path, kept, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, kept)
        self._run.save(str(kept / "*" if path.is_dir() else kept), base_path=self._run.dir, policy="now")

    def close(self, status: Status) -> None:
        self._run.finish(exit_code=_EXIT_CODE[status])


SINK = SinkKind("Weights & Biases", WandbSettings, _Wandb, extra="wandb")
