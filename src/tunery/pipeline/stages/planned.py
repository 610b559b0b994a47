"""What ``plan`` foretold of a training, kept until the training shows what it took."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError

from tunery.core.config import Record
from tunery.core.figures import duration
from tunery.store.whole_file import write_whole
from tunery.store.workspace import Workspace

_FOLDER = "plans"


class Planned(Record):
    """A forecast of one training."""

    training_s: float
    """Steps and validations, without the smoke run and loading [s]."""
    memory_bytes: int


def keep_planned(workspace: Workspace, adapter_id: str, planned: Planned) -> None:
    """Keep the newest forecast of a training; a home that cannot be written loses it."""
    path = _path(workspace, adapter_id)
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        with write_whole(path) as stream:
            stream.write(planned.model_dump_json())


def planned(workspace: Workspace, adapter_id: str) -> Planned | None:
    """Return what was foretold of a training; None where nobody planned it."""
    try:
        return Planned.model_validate_json(_path(workspace, adapter_id).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def took(seconds: float, foretold: Planned | None) -> str:
    """Return how long a training took, beside what was foretold.

    >>> took(130.0, Planned(training_s=100.0, memory_bytes=0))
    '2 min 10 s (planned 1 min 40 s)'
    """
    return duration(seconds) + (f" (planned {duration(foretold.training_s)})" if foretold else "")


def _path(workspace: Workspace, adapter_id: str) -> Path:
    return workspace.root / _FOLDER / f"{adapter_id}.json"
