"""Log-probabilities by the model that training starts from, computed once for every row.

Before its first step a model with a fresh adapter is its base, one that goes on from an adapter has that
adapter, one that is trained whole is itself: whichever it is, that is the reference. Computing it beforehand
takes one pass without gradients in place of one in each epoch, and no second model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tunery.core.progress import Progress
from tunery.model.packing import pack
from tunery.model.render import Rendered
from tunery.train.fitting import Fitting
from tunery.train.methods.method import TrainingRow, TrainingRows
from tunery.train.methods.preferences import sequence_log_probs
from tunery.train.ranks import ALONE, Team

_KEPT = "reference.npy"


def with_reference(
    model: nn.Module,
    rows: TrainingRows,
    *,
    fitting: Fitting,
    folder: Path,
    progress: Progress,
    team: Team = ALONE,
) -> TrainingRows:
    """Return the rows with their reference.

    Args:
        model: As training starts, before any checkpoint is loaded into it.
        rows: Without a reference.
        fitting: Divides them among forwards that fit.
        folder: Of the checkpoints; what a training that was killed had computed is taken from there.
        progress: Shows a bar.
        team: Ranks, each of which computes a share.

    Raises:
        OSError: The folder cannot be written.
    """
    sequences = sum(len(_read(row)) for split in rows for row in split)
    known = _kept(folder / _KEPT, sequences)
    if team.any(known is None) or known is None:
        device = next(model.parameters()).device
        known = _computed(model, [*rows.train, *rows.validation], fitting, device, progress, team)
        if team.leads:
            _keep(folder, known)
    values = iter(known.tolist())
    train, validation = ([_with_values(row, values) for row in split] for split in rows)
    return TrainingRows(train, validation)


def _keep(folder: Path, known: np.ndarray) -> None:
    partial = folder / f".{_KEPT}.partial"
    with partial.open("wb") as stream:
        np.save(stream, known, allow_pickle=False)
    partial.rename(folder / _KEPT)


def _read(row: TrainingRow) -> tuple[Rendered, ...]:
    """Return all sequences of a row, those that are only measured last."""
    return (*row.sequences, *row.beside)


def _with_values(row: TrainingRow, values: Iterator[float]) -> TrainingRow:
    reference, beside = (tuple(next(values) for _ in some) for some in (row.sequences, row.beside))
    return row._replace(reference=reference, beside_reference=beside)


def _kept(path: Path, sequences: int) -> np.ndarray | None:
    """Return what an earlier process computed; None where there is none, or it is not for these rows."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    usable = found.shape == (sequences,) and found.dtype == np.float64 and np.isfinite(found).all()
    return found if usable else None


def _computed(
    model: nn.Module,
    rows: Sequence[TrainingRow],
    fitting: Fitting,
    device: torch.device,
    progress: Progress,
    team: Team,
) -> np.ndarray:
    training = model.training
    model.eval()
    mine = team.share(rows)
    found: list[list[float]] = [[] for _ in rows]
    with progress.task("reference", len(mine)) as bar, torch.no_grad():

        def compute() -> None:
            left = [i for i in mine if not found[i]]
            divisions = fitting.divide([rows[i] for i in left])
            idle = team.idle(len(divisions))
            for divided in divisions:
                some = [left[i] for i in divided]
                fitting.computing = [rows[i] for i in some]
                sequences = [sequence for i in some for sequence in _read(rows[i])]
                values = iter(sequence_log_probs(model, pack(sequences).to(device)).tolist())
                for i in some:
                    found[i] = [next(values) for _ in _read(rows[i])]
                bar.advance(len(some))
            for _ in range(idle):
                sequence_log_probs(model, pack(_read(rows[0])).to(device))

        fitting.fit(compute)
    model.train(training)
    for row, values in zip(rows, found, strict=True):
        values += [0.0] * (len(_read(row)) - len(values))  # another rank's
    return np.array(team.sum([value for values in found for value in values]), dtype=np.float64)
