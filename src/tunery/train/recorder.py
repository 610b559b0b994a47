"""Flight recorder: which rows every optimizer step had, and what the loss of each of them was.

While training runs it is a file beside the checkpoints that only grows: 16 bytes for each row of each step,
written when the step is computed. What it holds behind the checkpoint that a run goes on from is cut off, so
that every step stands there once. With the finished adapter it lies as :data:`RECORDER`, a Parquet file that
pandas and DuckDB read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tunery.train.methods.method import TrainingRow

RECORDER = "row_losses.parquet"
"""Name of the file with a finished adapter."""
_RECORDS, _IDS = "row_losses.bin", "row_ids.json"
"""Names of the two files beside the checkpoints."""
_RECORD = np.dtype([("step", "<u4"), ("row", "<u4"), ("loss", "<f4"), ("share", "<f4")])


class RowLoss(NamedTuple):
    """One row of one step."""

    id: str
    loss: float
    """Mean over the row's own tokens, or of its pair [nats]."""
    share: float
    """What the row adds to the step's loss: those of a step sum to it [nats]."""


class Recorded(NamedTuple):
    """What a flight recorder holds; the columns have the shape ``(records,)``, in the order of the steps."""

    ids: tuple[str, ...]
    """Ids of the train rows."""
    step: np.ndarray
    """Optimizer step, from 1 on."""
    row: np.ndarray
    """Index into ``ids``."""
    loss: np.ndarray
    """See :class:`RowLoss`."""
    share: np.ndarray
    """See :class:`RowLoss`."""

    def of_step(self, step: int) -> list[RowLoss]:
        """Return the rows of a step, in the order in which they were computed."""
        at = np.flatnonzero(self.step == step)
        return [RowLoss(self.ids[self.row[i]], float(self.loss[i]), float(self.share[i])) for i in at]

    def by_row(self) -> dict[str, list[float]]:
        """Return each row's losses in the order of its passes, those that are no numbers left out [nats]."""
        found: dict[str, list[float]] = {}
        finite = np.isfinite(self.loss)
        for row, loss in zip(self.row[finite].tolist(), self.loss[finite].tolist(), strict=True):
            found.setdefault(self.ids[row], []).append(loss)
        return found


class Recorder:
    """The recorder of a training that runs.

    Args:
        folder: Of the checkpoints; made where it is missing.
        ids: Of the train rows.
        step: Step that training goes on behind; what an earlier process recorded behind it is cut off.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, ids: Sequence[str], *, step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / _RECORDS
        known = _ids_in(folder)
        if known != list(ids):
            _write_ids(folder, ids)
        before = _records_in(folder) if known == list(ids) else np.empty(0, _RECORD)
        kept = int(np.searchsorted(before["step"], step, side="right"))
        with self._path.open("ab") as stream:
            stream.truncate(kept * _RECORD.itemsize)
        self.ids = tuple(ids)
        self.last: Sequence[TrainingRow] = ()
        """Rows of the step recorded last."""
        self._index = {identity: i for i, identity in enumerate(ids)}

    def add(self, step: int, rows: Sequence[TrainingRow], losses: Sequence[RowLoss]) -> None:
        """Record a step; a process that is killed behind this has it.

        Args:
            step: Optimizer step, from 1 on.
            rows: Its rows.
            losses: Of each of them, in any order.
        """
        self.last = rows
        records = np.array([(step, self._index[r.id], r.loss, r.share) for r in losses], dtype=_RECORD)
        with self._path.open("ab") as stream:
            stream.write(records.tobytes())

    def sync(self) -> None:
        """Wait until what was recorded is on the disk; a checkpoint counts on it."""
        with self._path.open("rb") as stream:
            os.fsync(stream.fileno())

    def read(self) -> Recorded:
        """Return what was recorded so far."""
        return _recorded(self.ids, _records_in(self._path.parent))

    def keep(self, folder: Path) -> None:
        """Write what was recorded into the folder of the adapter that came of it."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = self.read()
        columns = {
            "step": found.step,
            "id": pa.DictionaryArray.from_arrays(found.row.astype(np.int32), pa.array(self.ids, pa.string())),
            "loss": found.loss,
            "share": found.share,
        }
        pq.write_table(pa.table(columns), folder / RECORDER, compression="zstd")


def recorded_in(folder: Path) -> Recorded | None:
    """Return what the recorder of a training holds.

    Args:
        folder: Of a finished adapter, or of the checkpoints of one that is not.

    Returns:
        None where there is no recorder: the training is older than recorders are, or was never begun.
    """
    if (folder / RECORDER).is_file():
        import pyarrow.parquet as pq

        table = pq.read_table(folder / RECORDER)
        named = table["id"].combine_chunks()
        ids, rows = named.dictionary.to_pylist(), named.indices.to_numpy()
        step, loss, share = (table[name].to_numpy() for name in ("step", "loss", "share"))
        return Recorded(tuple(ids), step, rows, loss, share)
    ids = _ids_in(folder)
    return None if ids is None else _recorded(ids, _records_in(folder))


def _recorded(ids: Sequence[str], records: np.ndarray) -> Recorded:
    return Recorded(tuple(ids), *(records[name].copy() for name in ("step", "row", "loss", "share")))


def _ids_in(folder: Path) -> list[str] | None:
    try:
        found = json.loads((folder / _IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(i, str) for i in found) else None


def _write_ids(folder: Path, ids: Sequence[str]) -> None:
    partial = folder / f".{_IDS}.partial"
    partial.write_text(json.dumps(list(ids)), encoding="utf-8")
    partial.rename(folder / _IDS)


def _records_in(folder: Path) -> np.ndarray:
    """Return whole records up to the first that cannot be one, as after a kill or on a damaged disk."""
    try:
        content = (folder / _RECORDS).read_bytes()
    except FileNotFoundError:
        content = b""
    found = np.frombuffer(content[: len(content) // _RECORD.itemsize * _RECORD.itemsize], dtype=_RECORD)
    falls = np.flatnonzero(np.diff(found["step"].astype(np.int64)) < 0)
    return found[: falls[0] + 1] if len(falls) else found
