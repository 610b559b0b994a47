"""What a run tells experiment trackers: its settings, what it was trained on, its losses, its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tunery import __version__
from tunery.core.dataset import DatasetVersion
from tunery.core.evaluation import Evaluation
from tunery.pipeline.context import RunContext
from tunery.store.left_overs import TRACK
from tunery.text.pii.mask import redact
from tunery.track.sinks.sink import Parameter, Status, TrackedRun
from tunery.track.tracker import Untracked, open_tracker


@contextmanager
def tracking(context: RunContext, identity: str, dataset: DatasetVersion) -> Iterator[None]:
    """Open the recipe's trackers for the length of a block; how it ends is how the tracked run ends.

    Args:
        identity: Under which a run that goes on is known again.
    """
    context.tracker = open_tracker(
        context.recipe.track, lambda: _tracked(context, identity, dataset), context.progress
    )
    status: Status = "failed"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "stopped"
        raise
    finally:
        context.tracker.close(status)
        context.tracker = Untracked()


def evaluation_metrics(subject: str, evaluation: Evaluation) -> dict[str, float]:
    """Return an evaluation's metrics by name, such as ``evaluate/tuned/exact_match``."""
    return {f"evaluate/{subject}/{name}": metric.value for name, metric in evaluation.metrics.items()}


def training_metrics(point: Mapping[str, Any]) -> dict[str, float]:
    """Return one point of training's history by name, such as ``train/train_loss``."""
    numbers = {f"train/{name}": value for name, value in point.items() if name not in ("step", "metrics")}
    return {**numbers, **point.get("metrics", {})}


def _tracked(context: RunContext, identity: str, dataset: DatasetVersion) -> TrackedRun:
    folder = context.workspace.root / TRACK / identity
    folder.mkdir(parents=True, exist_ok=True)
    settings = context.recipe.model_dump(mode="json", exclude={"track"})
    return TrackedRun(
        id=identity,
        name=context.recipe.name,
        parameters=dict(_flat(settings)),
        tags={
            "dataset_version": dataset.id,
            "dataset_content_sha256": dataset.content_sha256,
            "base": context.base.label,
            "tunery": __version__,
        },
        folder=folder,
    )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Parameter]]:
    """Yield every setting by its dotted path, places in lists as numbers; texts without personal data."""
    parts: Any = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    if not isinstance(value, (Mapping, list)):
        yield path, redact(value) if isinstance(value, str) else value
    for key, part in parts:
        yield from _flat(part, f"{path}.{key}" if path else str(key))
