"""Checkpoints that can be trusted: on the disk and complete or not there, the best and the last kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tunery.core.errors import DamagedError
from tunery.core.ids import sha256_file
from tunery.store.whole_folder import sync, sync_tree
from tunery.train.packed_state import pack_state

_MANIFEST = "manifest.json"
_FOLDER = re.compile(r"^checkpoint-\d+$")


def seal(folder: Path) -> None:
    """Write the manifest that makes a checkpoint count, and wait until all of it is on the disk.

    Everything else must be written by now. A power cut leaves the checkpoint whole or without its manifest.
    """
    # Arguments as a pickle: written by the Trainer, never read by us.
    (folder / "training_args.bin").unlink(missing_ok=True)
    pack_state(folder)
    files = {p.name: sha256_file(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name != _MANIFEST}
    sync_tree(folder)
    # Renamed into place: a kill leaves no manifest or a whole one, never half of one.
    partial = folder / f"{_MANIFEST}.partial"
    partial.write_text(json.dumps({"files": files}), encoding="utf-8")
    sync(partial)
    partial.rename(folder / _MANIFEST)
    sync(folder)
    sync(folder.parent)


def damage_of(folder: Path) -> str:
    """Return why a checkpoint cannot be used, empty where it is complete and matches its checksums."""
    if not folder.is_dir():
        return "it is gone"
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        wanted = {str(name): str(digest) for name, digest in files.items()}
    except FileNotFoundError:
        return "it was never finished"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{_MANIFEST} is damaged"
    missing = [f"{name} is missing" for name in wanted if not (folder / name).is_file()]
    try:
        changed = [
            f"{name} is not what was written"
            for name, digest in wanted.items()
            if (folder / name).is_file() and sha256_file(folder / name) != digest
        ]
    except OSError as error:
        changed = [str(error)]
    return "; ".join([*missing, *changed]) or ("" if wanted else f"{_MANIFEST} names no file")


def require_complete(folder: Path) -> None:
    """Refuse a checkpoint that is not what was written.

    Raises:
        DamagedError: Says what is wrong with it.
    """
    damage = damage_of(folder)
    if damage:
        raise DamagedError(
            f"{folder}: {damage}; no adapter is made of it",
            hint="give the same command again: training goes on from the newest checkpoint that is whole",
        )


def step_of(folder: Path) -> int:
    """Return the step a checkpoint folder was taken at [count]."""
    return int(folder.name.removeprefix("checkpoint-"))


def newest(
    root: Path,
    *,
    best_of: Callable[[Path], int | None] = lambda folder: None,
    tell: Callable[[str], None] = lambda message: None,
) -> Path | None:
    """Return the last checkpoint under ``root`` that training can go on from; those behind it are removed.

    Args:
        root: Folder of the checkpoints.
        best_of: Step of the best checkpoint as a complete one knows it, None where none is needed beside it.
            Without the best one training would end with other weights than undisturbed, so a checkpoint
            whose best is gone is not gone on from.
        tell: Told of every checkpoint that is left out although it was finished once, and why.
    """
    for folder in sorted(_folders(root), key=step_of, reverse=True):
        damage = damage_of(folder)
        if not damage:
            best = best_of(folder)
            if best is None or best == step_of(folder):
                return folder
            damage = damage_of(root / f"checkpoint-{best}")
            if not damage:
                return folder
            damage = f"the best one before it, of step {best}, cannot be used ({damage})"
        if (folder / _MANIFEST).exists():  # else a process was killed while it wrote this one
            tell(f"the checkpoint of step {step_of(folder)} is left out: {damage}")
        shutil.rmtree(folder)
    return None


def steps_in(root: Path) -> list[int]:
    """Return the steps of the checkpoints that are there, whole or not, ascending."""
    return sorted(map(step_of, _folders(root)))


def keep_only(root: Path, steps: set[int]) -> None:
    """Remove every checkpoint whose step is not in ``steps``."""
    for folder in _folders(root):
        if step_of(folder) not in steps:
            # Without its manifest it no longer counts, however far a kill lets the removal come.
            (folder / _MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder)


def _folders(root: Path) -> list[Path]:
    return [p for p in root.glob("checkpoint-*") if p.is_dir() and _FOLDER.match(p.name)]
