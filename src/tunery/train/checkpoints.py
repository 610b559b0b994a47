"""Checkpoints that can be trusted: complete or not there, the best and the last kept."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tunery.core.ids import sha256_file

_MANIFEST = "manifest.json"
_FOLDER = re.compile(r"^checkpoint-\d+$")


def seal(folder: Path) -> None:
    """Write the manifest that makes a checkpoint count; everything else must be on disk by now."""
    # Arguments as a pickle: written by the Trainer, never read by us.
    (folder / "training_args.bin").unlink(missing_ok=True)
    files = {p.name: sha256_file(p) for p in sorted(folder.iterdir()) if p.is_file() and p.name != _MANIFEST}
    # Renamed into place: a kill leaves no manifest or a whole one, never half of one.
    partial = folder / f"{_MANIFEST}.partial"
    partial.write_text(json.dumps({"files": files}), encoding="utf-8")
    partial.rename(folder / _MANIFEST)


def is_complete(folder: Path) -> bool:
    """Tell whether a checkpoint has its manifest and every file matches its checksum."""
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        return bool(files) and all(sha256_file(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def step_of(folder: Path) -> int:
    """Return the step a checkpoint folder was taken at [count]."""
    return int(folder.name.removeprefix("checkpoint-"))


def newest(root: Path) -> Path | None:
    """Return the last complete checkpoint under ``root``; incomplete ones are removed."""
    for folder in sorted(_folders(root), key=step_of, reverse=True):
        if is_complete(folder):
            return folder
        shutil.rmtree(folder)  # a process was killed while it wrote this one
    return None


def keep_only(root: Path, steps: set[int]) -> None:
    """Remove every checkpoint whose step is not in ``steps``."""
    for folder in _folders(root):
        if step_of(folder) not in steps:
            # A kill in here leaves a folder whose files no longer match its manifest: newest() removes it.
            shutil.rmtree(folder)


def _folders(root: Path) -> list[Path]:
    return [p for p in root.glob("checkpoint-*") if p.is_dir() and _FOLDER.match(p.name)]
