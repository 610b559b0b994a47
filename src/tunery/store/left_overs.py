"""What killed processes left behind, told from what running ones need by locks that end with their holder."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from tunery.core.errors import BusyError, ConfigError, NotFoundError
from tunery.store.artifacts import Artifacts, Kind
from tunery.store.exclusive import exclusive
from tunery.store.whole_file import dead_partials
from tunery.store.whole_folder import left_overs as dead_folders

CHECKPOINTS = "checkpoints"
"""Folder of checkpoints in a workspace, one folder an adapter."""
TRACK = "track"
"""Folder in a workspace of what experiment trackers write there, one folder a run."""
TUNE = "tune"
"""Folder in a workspace of searches for settings, one folder a search."""
TRIAL = "trial-"
"""What a trial's folder in there begins with."""
_SCRATCH = "scratch"
_ANSWERS = "answers"
"""Folder in a workspace of answers of evaluations under way, one file an evaluation."""


class LeftOver(NamedTuple):
    """Something on the disk, or in the shared store, that nobody will read."""

    path: Path | str
    """A URL in the shared store."""
    bytes: int
    what: str
    """What it is, in a few words."""


def scratch_file(root: Path) -> Path:
    """Return a path for rows in the making; :func:`left_overs` clears what a killed process left there."""
    folder = root / _SCRATCH
    folder.mkdir(exist_ok=True)
    list(_scratch_rows(root, remove=True))
    return folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.rows"


def kept_answers(root: Path, evaluation: str) -> Path:
    """Return the file of what an evaluation under way has been answered so far."""
    return root / _ANSWERS / f"{evaluation}.jsonl"


def left_overs(root: Path, *, remove: bool) -> list[LeftOver]:
    """Return what killed processes left in a workspace; what a running one holds is none of it.

    Args:
        root: Root folder of the workspace.
        remove: Whether it goes.
    """
    if not root.is_dir():
        return []
    return [
        *_partial_folders(root, remove=remove),
        *_partial_files(root, remove=remove),
        *_scratch_rows(root, remove=remove),
        *_spent_checkpoints(root, remove=remove),
        *_dead_trials(root, remove=remove),
        *_spent_answers(root, remove=remove),
    ]


def size_of(path: Path) -> int:
    """Return what a file, or all files in a folder, take [bytes]."""
    files = [path] if path.is_symlink() or path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    total = 0
    for file in files:
        try:
            total += file.lstat().st_size
        except FileNotFoundError:
            continue  # gone meanwhile
    return total


def _partial_folders(root: Path, *, remove: bool) -> Iterator[LeftOver]:
    for kind in get_args(Kind):
        for folder in dead_folders(root / kind, remove=False):
            yield LeftOver(folder, size_of(folder), "half-made folder of a killed process")
        if remove:
            dead_folders(root / kind, remove=True)


def _partial_files(root: Path, *, remove: bool) -> Iterator[LeftOver]:
    for folder in (root, *(p for p in root.iterdir() if p.is_dir() and not p.is_symlink())):
        sizes = {p: size_of(p) for p in dead_partials(folder, remove=False)}
        for path in dead_partials(folder, remove=True) if remove else sizes:
            yield LeftOver(path, sizes.get(path, 0), "half-written file of a killed process")


def _scratch_rows(root: Path, *, remove: bool) -> Iterator[LeftOver]:
    for path in sorted((root / _SCRATCH).glob("*.rows*")):
        if not _runs(path.name):
            yield LeftOver(path, size_of(path), "rows of a build that was killed")
            if remove:
                path.unlink(missing_ok=True)


def _runs(name: str) -> bool:
    try:
        os.kill(int(name.partition("-")[0]), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        pass  # it runs for somebody else
    return True


def _spent_checkpoints(root: Path, *, remove: bool) -> Iterator[LeftOver]:
    artifacts = Artifacts(root)
    for folder in sorted((root / CHECKPOINTS).glob("*")):
        try:
            with exclusive(root, folder.name):
                if artifacts.damage("adapters", folder.name):
                    continue  # training again goes on from them
                yield LeftOver(folder, size_of(folder), "checkpoints of an adapter that is finished")
                if remove:
                    shutil.rmtree(folder, ignore_errors=True)
        except (BusyError, NotFoundError, ConfigError):
            continue  # in use; unfinished; no folder of ours


def _dead_trials(root: Path, *, remove: bool) -> Iterator[LeftOver]:
    for folder in sorted((root / TUNE).glob(f"*/{TRIAL}*")):
        with contextlib.suppress(BusyError, NotFoundError, ConfigError), exclusive(root, folder.parent.name):
            yield LeftOver(folder, size_of(folder), "trial of a search that was killed")
            if remove:
                shutil.rmtree(folder, ignore_errors=True)


def _spent_answers(root: Path, *, remove: bool) -> Iterator[LeftOver]:
    artifacts = Artifacts(root)
    for path in sorted((root / _ANSWERS).glob("*.jsonl")):
        with contextlib.suppress(NotFoundError, ConfigError, FileNotFoundError):
            if artifacts.damage("evaluations", path.stem):
                continue  # evaluating again goes on from them
            yield LeftOver(path, size_of(path), "answers of an evaluation that is finished")
            if remove:
                path.unlink(missing_ok=True)
