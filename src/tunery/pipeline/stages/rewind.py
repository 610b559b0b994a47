"""What the flight recorder of a training says, with the rows' texts: of a finished adapter or of one that
broke.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tunery.core.dataset import DatasetVersion
from tunery.core.errors import NotFoundError
from tunery.core.figures import counted
from tunery.core.ids import check_id
from tunery.core.progress import Progress
from tunery.core.row_losses import RowLosses, stay_hard
from tunery.store.left_overs import CHECKPOINTS
from tunery.store.workspace import Workspace

if TYPE_CHECKING:
    from tunery.train.recorder import Recorded

_ABOUT = "training.json"
"""File beside the checkpoints that says what is trained on."""
_TEXT_CHARS = 160


class RecordedTraining(NamedTuple):
    """A training whose rows were recorded."""

    adapter: str
    """Id of the adapter that it made, or was to make."""
    dataset: str | None
    """Id of the dataset version; None where nobody knows any more."""
    folder: Path
    """Where the recorder lies."""


class RowText(NamedTuple):
    """A row as a person recognises it."""

    where: str
    """File and row number."""
    prompt: str
    """Its beginning, without personal data."""
    answer: str
    """The same of the answer."""
    rejected: str | None
    """The same of the answer that was not preferred; None where there is none."""


def note_training(checkpoints: Path, dataset: DatasetVersion) -> None:
    """Say beside the checkpoints what is trained on."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / _ABOUT).write_text(json.dumps({"dataset_version": dataset.id}), encoding="utf-8")


def recorded_training(workspace: Workspace, name: str) -> RecordedTraining:
    """Return the training of a run or an adapter, finished or not.

    Raises:
        NotFoundError: There is none of that id, or its rows were not recorded.
        ConfigError: The id could be a path.
        DamagedError: The adapter's files are not what they were.
    """
    check_id(name, "run or adapter id")
    run = workspace.runs.find(name)
    adapter = (run.adapter_id or run.trains) if run is not None else name
    if adapter is None:
        raise NotFoundError(f"{name} has not come to its training", hint="tunery run RECIPE goes on with it")
    known = workspace.adapters.find(adapter)
    if known is not None and workspace.artifacts.has("adapters", adapter):
        return RecordedTraining(adapter, known.dataset_version, workspace.artifacts.path("adapters", adapter))
    folder = workspace.root / CHECKPOINTS / adapter
    if run is None and not folder.is_dir():
        names = [*(r.id for r in workspace.runs.list()), *(a.id for a in workspace.adapters.list())]
        raise NotFoundError.of("run or adapter", name, names, hint="tunery train ls")
    return RecordedTraining(adapter, _dataset_of(folder), folder)


def _dataset_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _ABOUT).read_text(encoding="utf-8"))["dataset_version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def texts_of(workspace: Workspace, dataset: str | None, rows: set[str]) -> Mapping[str, RowText]:
    """Return the texts of rows by their ids; those of a dataset version that is gone are left out."""
    from tunery.store.dataset_files import read_columns
    from tunery.text.pii.mask import redact

    if dataset is None or not workspace.artifacts.has("datasets", dataset):
        return {}
    columns = read_columns(workspace.artifacts.path("datasets", dataset))

    def beginning(text: str) -> str:
        # Masked before it is cut: half an address would not be known for one.
        line = " ".join(redact(text[: 20 * _TEXT_CHARS]).split())
        return line if len(line) <= _TEXT_CHARS else line[: _TEXT_CHARS - 2] + " …"

    def text(i: int) -> RowText:
        prompt, answer, rejected = columns.prompts[i], columns.answers[i], columns.rejected[i]
        shown = None if rejected is None else beginning(rejected)
        return RowText(columns.where(i), beginning(prompt), beginning(answer), shown)

    return {identity: text(i) for i, identity in enumerate(columns.ids) if identity in rows}


def newest_row_losses(workspace: Workspace, dataset: DatasetVersion) -> RowLosses | None:
    """Return what the newest training on a dataset version that saw rows twice recorded; else None."""
    from tunery.train.recorder import RECORDER, recorded_in

    for adapter in workspace.adapters.list(dataset_version=dataset.id):
        if not workspace.artifacts.has("adapters", adapter.id):
            continue
        folder = workspace.artifacts.folder("adapters", adapter.id)
        if (folder / RECORDER).is_file() and not workspace.artifacts.damage("adapters", adapter.id):
            found = recorded_in(folder)
            losses = found.by_row() if found else {}
            if any(len(row) > 1 for row in losses.values()):
                return losses
    return None


def tell_of_hard_rows(progress: Progress, folder: Path) -> None:
    """Say how many rows stayed hard in the training that has just ended, and what names them."""
    hard = hard_rows_in(folder)
    if hard:
        progress.event(
            f"{counted(hard, 'row')} stayed hard: tunery data inspect RECIPE names them once this is done"
        )


def hard_rows_in(folder: Path) -> int | None:
    """Return how many rows stayed hard in a training; None where its rows were not recorded [rows].

    Args:
        folder: Of the adapter.
    """
    from tunery.train.recorder import recorded_in

    found = recorded_in(folder)
    return len(stay_hard(found.by_row())) if found else None


def require_recorded(training: RecordedTraining) -> Recorded:
    """Return what the recorder of a training holds.

    Raises:
        NotFoundError: Its rows were not recorded.
    """
    from tunery.train.recorder import recorded_in

    found = recorded_in(training.folder)
    if found is None:
        raise NotFoundError(
            f"the rows of {training.adapter}'s steps were not recorded: it was trained by an earlier version",
            hint="tunery train show ID shows its losses",
        )
    return found
