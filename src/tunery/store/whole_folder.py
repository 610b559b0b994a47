"""A folder that is complete or not there, and that tells when its files are no longer what they were.

It is filled as ``<name>.<random>.partial``, gets its manifest with every file's checksum last, and takes its
name in one rename. Whoever makes it holds a lock on it meanwhile; a partial folder that nobody holds was left
by a process that was killed, and is removed by the next one that makes something beside it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError, DamagedError, listed
from tunery.core.ids import sha256_file
from tunery.store.checksums import checksum, note_of, remembered_checksum

MANIFEST = "manifest.json"
MEND = "restore it from a backup, or give the command that made it again"
"""What mends a folder that can be made again."""
_HELD = ".held"
"""File in a partial folder that its maker keeps locked."""
_SUFFIX = ".partial"
_SHOWN = 10


class Manifest(NamedTuple):
    """What a whole folder says of itself."""

    kind: str
    id: str
    about: dict[str, Any]
    checksums: dict[str, str]
    """SHA-256 of each file by its path within the folder."""
    bytes: int
    """Of all files [bytes]."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Manifest:
        """Return what a manifest's JSON says.

        Raises:
            ValueError: It is none.
        """
        try:
            files = {str(name): entry for name, entry in said["files"].items()}
            checksums = {name: str(entry["sha256"]) for name, entry in files.items()}
            size = sum(int(entry["bytes"]) for entry in files.values())
            return cls(str(said["kind"]), str(said["id"]), dict(said["about"]), checksums, size)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from None


@contextmanager
def write_whole_folder(
    final: Path, kind: str, about: Mapping[str, Any], *, may_write: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield an empty folder that is found at ``final`` once the block has ended without an error.

    What is there already and whole is kept, for its name says what is in it; what is damaged is replaced.

    Args:
        final: Where it goes.
        kind: What it is, for the manifest.
        about: What the manifest says of it besides; read at the end of the block.
        may_write: Asked before the folder gets its name; raises where the caller may write no more.

    Raises:
        ConfigError: What was written is no plain file.
        OSError: It cannot be written.
    """
    partial, held = _begin(final)
    try:
        yield partial
        _seal(partial, {"kind": kind, "id": final.name, "about": dict(about)})
        may_write()
        with _guarded(final.parent):
            if is_complete(final) and not damage_of(final):
                shutil.rmtree(partial)
            else:
                if os.path.lexists(final):
                    doom(final)
                # Not earlier: without it, one that begins just now takes the folder for a dead one's.
                (partial / _HELD).unlink()
                partial.rename(final)
                sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(held)


def is_complete(folder: Path) -> bool:
    """Say whether a folder was finished; its files may be damaged since."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Return what a whole folder says of itself.

    Raises:
        DamagedError: The manifest is not one.
    """
    try:
        return Manifest.of(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        raise DamagedError(f"{folder / MANIFEST} is damaged", hint=MEND) from None


def damage_of(folder: Path) -> list[str]:
    """Return what of a finished folder is not as it was made, one sentence a file; empty where it is whole.

    Raises:
        OSError: A file cannot be read.
    """
    try:
        manifest = read_manifest(folder)
    except DamagedError:
        return [f"{MANIFEST}: not readable"]
    if manifest.id != folder.name:
        return [f"{MANIFEST}: that of {manifest.kind}/{manifest.id}, not of this folder"]
    expected = manifest.checksums
    found = {name: path for name, path in _files(folder).items() if name != MANIFEST}
    notes = {note_of(Path(name)).as_posix() for name in expected}
    problems = [f"{name}: missing" for name in expected if name not in found]
    problems += [f"{name}: was not there when it was made" for name in found.keys() - expected.keys() - notes]
    for name in found.keys() & expected.keys():
        if not stat.S_ISREG(found[name].lstat().st_mode):
            problems.append(f"{name}: a link or a special file stands in its place")
        elif checksum(found[name]) != expected[name]:
            problems.append(f"{name}: checksum differs from the manifest's")
    return sorted(problems)


def changed_files(folder: Path) -> list[str]:
    """Return what of a finished folder is not as it was made, by checksums that may be noted beside files.

    For folders that only name what computes: whoever loads them compares their files again.
    """
    try:
        expected = read_manifest(folder).checksums
    except DamagedError as error:
        return [error.message]
    problems = [f"{name} is missing" for name in expected if not (folder / name).is_file()]
    present = {name: sha256 for name, sha256 in expected.items() if (folder / name).is_file()}
    return problems + [
        f"the checksum of {name} differs from the manifest's"
        for name, sha256 in present.items()
        if remembered_checksum(folder / name) != sha256
    ]


def require_whole(folder: Path, *, hint: str = MEND) -> None:
    """Compute the checksums of a finished folder again.

    Args:
        folder: As :func:`write_whole_folder` made it.
        hint: What mends it.

    Raises:
        DamagedError: Lists each file that is missing, changed, or was not there when it was made.
    """
    problems = damage_of(folder)
    if problems:
        raise DamagedError(
            f"{folder} is not what it was: {listed(problems, _SHOWN, separator='; ')}", hint=hint
        )


def doom(folder: Path) -> None:
    """Remove a folder, all of it or nothing: under a partial's name it is gone at once, and a removal that is
    killed is finished by the next maker.
    """
    doomed = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}{_SUFFIX}")
    folder.rename(doomed)
    if doomed.is_symlink() or not doomed.is_dir():
        doomed.unlink()
    else:
        shutil.rmtree(doomed)


def left_overs(parent: Path, *, remove: bool) -> list[Path]:
    """Return the partial folders in ``parent`` whose makers are dead; ``remove`` says whether they go."""
    if not parent.is_dir():
        return []
    # Without the guard another process could find a folder between its making and its locking.
    with _guarded(parent):
        return _dead(parent, remove=remove)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; a crash loses none of it then."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until a folder with all that is in it is on the disk."""
    for path in _files(folder).values():
        sync(path)
    for inner in [p for p in folder.rglob("*") if p.is_dir()]:
        sync(inner)
    sync(folder)


def _begin(final: Path) -> tuple[Path, int]:
    """Remove what dead processes left and return a new folder with the descriptor that holds it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with _guarded(final.parent):
        _dead(final.parent, remove=True)
        partial = final.with_name(f"{final.name}.{secrets.token_hex(4)}{_SUFFIX}")
        partial.mkdir()
        held = os.open(partial / _HELD, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
    return partial, held


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _dead(parent: Path, *, remove: bool) -> list[Path]:
    # A hidden one is a file of write_whole, in a folder that holds both.
    named = (p for p in sorted(parent.glob(f"*{_SUFFIX}")) if not p.name.startswith("."))
    found = [partial for partial in named if not _is_held(partial)]
    if remove:
        for partial in found:
            shutil.rmtree(partial, ignore_errors=True)
    return found


def _is_held(partial: Path) -> bool:
    try:
        descriptor = os.open(partial / _HELD, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _files(folder: Path) -> dict[str, Path]:
    # A link is a file here, wherever it leads: none is ever made.
    paths = (p for p in sorted(folder.rglob("*")) if p.is_symlink() or not p.is_dir())
    return {p.relative_to(folder).as_posix(): p for p in paths}


def _seal(partial: Path, says: Mapping[str, Any]) -> None:
    """Write checksums of everything to the manifest, and wait until all of it is on the disk."""
    files = {name: path for name, path in _files(partial).items() if name != _HELD}
    special = [name for name, path in files.items() if path.is_symlink() or not path.is_file()]
    if special or MANIFEST in files:
        named = ", ".join(special) or f"{MANIFEST}, which is written here"
        raise ConfigError(f"{says['kind']}/{says['id']} may hold plain files only, not {named}")
    about_files = {n: {"sha256": sha256_file(p), "bytes": p.stat().st_size} for n, p in files.items()}
    manifest = partial / MANIFEST
    manifest.write_text(json.dumps({**says, "files": about_files}, indent=1, default=str), encoding="utf-8")
    sync_tree(partial)
