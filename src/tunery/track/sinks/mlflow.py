"""MLflow: a server, or a database of its own kind, by its tracking URI."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tunery.core.config import Settings
from tunery.track.sinks.sink import SinkKind, Status, TrackedRun

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_AT_ONCE = 100
"""Parameters, metrics or tags that one call may carry [count]."""
_LONGEST = 6000
"""Characters of a parameter's value that MLflow takes [count]."""
_RUN = "tunery.run"
"""Tag by which a run that goes on finds itself."""


class MlflowSettings(Settings):
    """Writes each run to MLflow; credentials come from MLFLOW_TRACKING_TOKEN and its like only."""

    uri: str | None = None
    """Tracking URI: ``http://…`` of a server, ``sqlite:///path`` of a database; by default that of
    MLFLOW_TRACKING_URI, or what MLflow takes without it."""
    experiment: str | None = None
    """Experiment that runs are filed under; by default the recipe's name. Made where it does not exist."""


class _Mlflow:
    def __init__(self, settings: MlflowSettings, run: TrackedRun) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        self._metric, self._tag = Metric, RunTag
        self._client = MlflowClient(tracking_uri=settings.uri)
        name = settings.experiment or run.name
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._id = self._run_of(experiment, run)
        for some in _batches(run.parameters.items()):
            given = [Param(key, str(value)[:_LONGEST]) for key, value in some]
            self._client.log_batch(self._id, params=given)
        self.tag(run.tags)

    def _run_of(self, experiment: str, run: TrackedRun) -> str:
        known = self._client.search_runs([experiment], filter_string=f"tags.`{_RUN}` = '{run.id}'")
        if known:
            self._client.update_run(known[0].info.run_id, status="RUNNING")
            return str(known[0].info.run_id)
        made = self._client.create_run(experiment, tags={_RUN: run.id}, run_name=f"{run.name} {run.id[-8:]}")
        return str(made.info.run_id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        for some in _batches(metrics.items()):
            given = [self._metric(name, value, now, step) for name, value in some]
            self._client.log_batch(self._id, metrics=given)

    def tag(self, tags: Mapping[str, str]) -> None:
        for some in _batches(tags.items()):
            self._client.log_batch(self._id, tags=[self._tag(key, value) for key, value in some])

    def file(self, path: Path) -> None:
        if path.is_dir():
            self._client.log_artifacts(self._id, str(path), path.name)
        else:
            self._client.log_artifact(self._id, str(path))

    def close(self, status: Status) -> None:
        self._client.set_terminated(self._id, _STATUS[status])


def _batches(items: Iterable[tuple[str, Any]]) -> Iterable[list[tuple[str, Any]]]:
    every = list(items)
    return (every[at : at + _AT_ONCE] for at in range(0, len(every), _AT_ONCE))


SINK = SinkKind("MLflow", MlflowSettings, _Mlflow, extra="mlflow")
