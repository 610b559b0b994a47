"""Artifacts: folders that are complete or not there.

A folder is filled as ``<id>.<random>.partial``, gets its manifest with every file's checksum last, and takes
its name in one rename. Whoever makes it holds a lock on it meanwhile; a partial folder that nobody holds was
left by a process that was killed, and is removed by the next one that makes something of that kind.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from tunery.core.errors import ConfigError, NotFoundError, ResourceError
from tunery.core.ids import check_id, sha256_file

Kind: TypeAlias = Literal[
    "datasets", "adapters", "evaluations", "models", "files", "reports", "inspections", "edits", "quality"
]

MANIFEST = "manifest.json"
RECORD = "record.json"
"""An artifact's database record, kept beside it so that a lost row can be written again."""
_HELD = ".held"
"""File in a partial folder that its maker keeps locked."""


class Artifacts:
    """The artifacts under one root, as ``root/kind/id/``.

    Args:
        root: Root folder of the workspace.
        may_write: Asked before an artifact gets its name; raises where the caller may write no more.
    """

    def __init__(self, root: Path, *, may_write: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._may_write = may_write

    @contextmanager
    def create(self, kind: Kind, id: str, about: Mapping[str, Any]) -> Iterator[Path]:
        """Yield an empty folder that becomes the artifact when the block ends, and goes when it raises.

        Where two make the same artifact at once, the first one's is kept: an id says what is in it.

        ``about`` is what the manifest says of it besides the files; it is read at the end of the block.

        Raises:
            ConfigError: The id could be a path, or what was written is no plain file.
            ResourceError: The disk is full or the folder cannot be written.
        """
        final = self._folder(kind, id)
        with _translated(final):
            partial, held = self._begin(final)
        try:
            with _translated(final):
                yield partial
                _seal(partial, {"kind": kind, "id": id, "about": dict(about)})
                self._may_write()
                with _guarded(final.parent):
                    if _complete(final):
                        shutil.rmtree(partial)
                    else:
                        shutil.rmtree(final, ignore_errors=True)
                        # Not earlier: without it, one that begins just now takes the folder for a dead one's.
                        (partial / _HELD).unlink()
                        partial.rename(final)
                        sync(final.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(held)

    def find(self, kind: Kind, id: str) -> Path | None:
        """Return an artifact's folder, None where it is not there or not complete.

        Raises:
            ConfigError: The id could be a path.
        """
        folder = self._folder(kind, id)
        return folder if _complete(folder) else None

    def path(self, kind: Kind, id: str) -> Path:
        """Return an artifact's folder.

        Raises:
            NotFoundError: There is none; names the nearest.
            ConfigError: The id could be a path.
        """
        folder = self.find(kind, id)
        if folder is None:
            raise NotFoundError.of(f"artifact in {self._root / kind}", id, self.ids(kind))
        return folder

    def ids(self, kind: Kind) -> list[str]:
        """Return the ids of the complete artifacts of a kind, sorted."""
        folder = self._root / _known(kind)
        if not folder.is_dir():
            return []
        return sorted(child.name for child in folder.iterdir() if "." not in child.name and _complete(child))

    def about(self, kind: Kind, id: str) -> dict[str, Any]:
        """Return what the manifest says of an artifact.

        Raises:
            NotFoundError: There is none.
            ConfigError: The manifest is damaged.
        """
        return dict(_read_manifest(self.path(kind, id))["about"])

    def verify(self, kind: Kind, id: str) -> None:
        """Compute every checksum again.

        Raises:
            NotFoundError: There is no such artifact.
            ConfigError: Lists each file that is missing, changed, or was not there when it was made.
        """
        folder = self.path(kind, id)
        expected: dict[str, dict[str, Any]] = dict(_read_manifest(folder)["files"])
        found = {name: path for name, path in _files(folder).items() if name != MANIFEST}
        problems = [f"{name}: missing" for name in expected if name not in found]
        problems += [f"{name}: was not there when it was made" for name in found if name not in expected]
        for name, path in found.items():
            if name in expected and sha256_file(path) != expected[name]["sha256"]:
                problems.append(f"{name}: checksum differs from the manifest's")
        if problems:
            raise ConfigError.of_problems(f"{folder} is not what it was", sorted(problems))

    def delete(self, kind: Kind, id: str) -> None:
        """Remove an artifact, all of it or nothing; one that is not there is no error.

        Raises:
            ConfigError: The id could be a path.
        """
        folder = self._folder(kind, id)
        if not folder.exists():
            return
        # Under a partial's name it is gone at once, and a killed removal is finished by the next maker.
        doomed = folder.with_name(f"{id}.{secrets.token_hex(4)}.partial")
        with _translated(folder):
            folder.rename(doomed)
            shutil.rmtree(doomed)

    def _folder(self, kind: Kind, id: str) -> Path:
        return self._root / _known(kind) / check_id(id, f"{kind} id")

    def _begin(self, final: Path) -> tuple[Path, int]:
        """Remove what dead processes left and return a new folder with the descriptor that holds it."""
        final.parent.mkdir(parents=True, exist_ok=True)
        # Without the guard another process could find the folder between its making and its locking.
        with _guarded(final.parent):
            for left in final.parent.glob("*.partial"):
                _remove_if_dead(left)
            partial = final.with_name(f"{final.name}.{secrets.token_hex(4)}.partial")
            partial.mkdir()
            held = os.open(partial / _HELD, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(held, fcntl.LOCK_EX)
        return partial, held


def _known(kind: str) -> str:
    if kind not in get_args(Kind):
        raise ConfigError(f"{kind!r:.40} is no kind of artifact (there is: {', '.join(get_args(Kind))})")
    return kind


def _complete(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_dead(partial: Path) -> None:
    try:
        descriptor = os.open(partial / _HELD, os.O_RDWR)
    except FileNotFoundError:
        shutil.rmtree(partial, ignore_errors=True)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if not p.is_dir()}


def _seal(partial: Path, says: Mapping[str, Any]) -> None:
    """Write checksums of everything to the manifest, and wait until all of it is on the disk."""
    files = {name: path for name, path in _files(partial).items() if name != _HELD}
    special = [name for name, path in files.items() if path.is_symlink() or not path.is_file()]
    if special or MANIFEST in files:
        named = ", ".join(special) or f"{MANIFEST}, which is written here"
        raise ConfigError(f"{says['kind']}/{says['id']} may hold plain files only, not {named}")
    listed = {}
    for name, path in files.items():
        listed[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        sync(path)
    manifest = partial / MANIFEST
    manifest.write_text(json.dumps({**says, "files": listed}, indent=1, default=str), encoding="utf-8")
    sync(manifest)
    for folder in [p for p in partial.rglob("*") if p.is_dir()] + [partial]:
        sync(folder)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; a crash loses none of it then."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(manifest, dict) and {"about", "files"} <= manifest.keys():
            return manifest
    except (OSError, ValueError):
        pass
    raise ConfigError(
        f"{folder / MANIFEST} is damaged", hint="restore the folder from a backup, or make it again"
    )


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"{folder}: the disk is full; nothing of it was kept", hint=f"df -h {folder.parent.parent}"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ResourceError(
                f"{folder.parent} cannot be written: {error.strerror}",
                hint="set TUNERY_HOME to a folder you can write, as in: export TUNERY_HOME=$HOME/tunery",
            ) from error
        raise
