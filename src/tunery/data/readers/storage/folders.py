"""Folders of rows: which files in them are read, in which order, and which split each belongs to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError
from tunery.core.splits import SplitName
from tunery.data.readers.storage.compression import unpacked_name
from tunery.store.urls import RawFile, RemoteFile, open_filesystem, redacted_url

MAX_FILES = 100_000
"""A folder with more files than this is not a folder of rows [count]."""
_MAX_STATE_BYTES = 16 << 20
_CODE_RUNS = frozenset({".pkl", ".pickle", ".pt", ".pth", ".joblib"})
_ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz"})
_SPLIT_WORDS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SHARD = re.compile(r"^([A-Za-z]+)(?:[-_.].*)?$")


class Found(NamedTuple):
    """One file of a folder."""

    name: str
    """Below the folder, with ``/``; order goes by it."""
    file: RawFile


def list_folder(folder: Path, name: str, endings: Sequence[str]) -> list[Found]:
    """Return the files of known endings below a local folder, sorted by name.

    Hidden files and folders (``.git``, ``.cache``) are passed over. A link is followed only to a file inside
    the folder, and never to another folder: that ends every loop, and nothing outside can be read.

    Raises:
        ConfigError: A link that leads out, a pickle, an archive, too many files, or no file of rows.
    """
    root = folder.resolve()

    def files() -> Iterator[Found]:
        for parent, folders, names in os.walk(root):  # does not follow links to folders
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for path in (Path(parent) / n for n in sorted(names)):
                yield Found(path.relative_to(root).as_posix(), path)

    return _chosen(files(), name, endings, root)


def _chosen(
    files: Iterable[Found], name: str, endings: Sequence[str] | None = None, root: Path | None = None
) -> list[Found]:
    """Return the files to read, sorted by name: those with one of ``endings``, or all where None.

    Raises:
        ConfigError: A link that leads out of ``root``, a pickle, an archive, too many files, or none of rows.
    """
    chosen: list[Found] = []
    problems: list[str] = []
    for seen, found in enumerate(files, 1):
        if seen > MAX_FILES:
            raise ConfigError(f"{name}: over {MAX_FILES:,} files; name the folder that holds the rows")
        problem = _problem(found.name) or (_outside(found.file, root) if root else None)
        if problem:
            problems.append(f"{found.name!r:.200} {problem}")
        elif endings is None or _is_wanted(found, endings):
            chosen.append(found)
    if problems:
        raise ConfigError.of_problems(name, problems, limit=10, hint="move them out of the folder")
    if not chosen:
        raise ConfigError(f"{name}: there is no file of rows in the folder", hint=f"ls -R {name}")
    return sorted(chosen, key=lambda f: f.name)


def _problem(file: str) -> str | None:
    ending = Path(file.lower()).suffix
    if ending in _CODE_RUNS:
        return "is a pickle, which can run code when it is opened; it is never read"
    if ending in _ARCHIVES:
        return "is an archive; unpack it"
    return None


def _outside(file: RawFile, root: Path) -> str | None:
    if isinstance(file, Path) and file.is_symlink():
        try:
            target = file.resolve(strict=True)
        except (OSError, RuntimeError):  # a link that leads nowhere, or to itself
            return "is a link that leads nowhere"
        if not (target.is_dir() or target.is_relative_to(root)):
            return "is a link to a file outside the folder"
    return None


def _is_wanted(found: Found, endings: Sequence[str]) -> bool:
    file = PurePosixPath(found.name).name
    plain = unpacked_name(file.lower())
    return (
        not file.startswith(".")
        and Path(plain).suffix in endings
        and plain not in ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
        and (not isinstance(found.file, Path) or found.file.is_file())  # a pipe would never end
    )


def saved_splits(folder: Path, name: str) -> list[str] | None:
    """Return the names of the splits that ``datasets`` saved in a folder; None where it saved none there.

    Raises:
        ConfigError: ``dataset_dict.json`` is broken, or a split's name leads out of the folder.

    Source:
        ``DatasetDict.save_to_disk``, https://huggingface.co/docs/datasets/process#save
    """
    name = f"{name}/dataset_dict.json"
    state = _read_json(folder / "dataset_dict.json", name)
    if state is None:
        return None
    splits = state.get("splits")
    if not isinstance(splits, list) or not splits:
        raise ConfigError(f"{name}: names no splits")
    return [_plain_name(s, name) for s in splits]


def saved_files(folder: Path, name: str) -> list[Found] | None:
    """Return the Arrow files that ``datasets`` saved in a folder; None where it saved none there.

    Rows of an ``_indices_files`` mapping are refused: they would come in another order, or twice.

    Raises:
        ConfigError: ``state.json`` is broken, names a file outside the folder or one that is not there.

    Source:
        ``Dataset.save_to_disk``, https://huggingface.co/docs/datasets/process#save
    """
    state = _read_json(folder / "state.json", f"{name}/state.json")
    if state is None:
        return None
    listed = state.get("_data_files")
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{name}/state.json: names no data files")
    if state.get("_indices_data_files"):
        raise ConfigError(
            f"{name}: the dataset was saved with an indices mapping",
            hint="save it again with dataset.flatten_indices().save_to_disk(…)",
        )
    found = []
    for entry in listed:
        file = entry.get("filename") if isinstance(entry, dict) else None
        plain = _plain_name(file, f"{name}/state.json")
        if not (folder / plain).is_file() or _outside(folder / plain, folder.resolve()):
            raise ConfigError(f"{name}: state.json names {plain!r}, which is not in the folder")
        found.append(Found(plain, folder / plain))
    return found


def _plain_name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value or value.startswith(".") or re.search(r"[/\\\x00]", value):
        raise ConfigError(f"{where}: {value!r:.80} is not a plain file name")
    return value


def _read_json(path: Path, name: str) -> dict[str, Any] | None:
    """Return the object in a file; None where there is no file."""
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_STATE_BYTES:
            raise ConfigError(f"{name}: is {path.stat().st_size:,} bytes long; that is no state of a dataset")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ConfigError(f"{name}: is not readable JSON") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: must be an object")
    return value


def split_of_name(name: str) -> SplitName | None:
    """Return the split that a shard's name says, None where it says none.

    >>> split_of_name("data/train-00000-of-00002.parquet"), split_of_name("val.jsonl"), split_of_name("x.csv")
    ('train', 'validation', None)
    """
    path = PurePosixPath(name)
    stem = path.name.split(".", 1)[0]
    for word in (stem, *reversed(path.parts[:-1])):
        matched = _SHARD.match(word)
        split = _SPLIT_WORDS.get(matched.group(1).lower()) if matched else None
        if split is not None:
            return split
    return None


def match_files(pattern: str, base_dir: Path) -> list[Found]:
    """Return the local files that a pattern such as ``data/train-*.parquet`` names, sorted.

    The pattern may stand in the last part only, so that it never walks through folders.

    Raises:
        ConfigError: The pattern stands elsewhere, or no file matches.
    """
    path = base_dir / pattern
    if any(is_pattern(part) for part in path.parent.parts):
        raise ConfigError(f"{pattern}: * and ? may stand in the file's name only, not in a folder's")
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    found = [Found(p.name, p) for p in beside if fnmatchcase(p.name, path.name) and p.is_file()]
    if not found:
        raise ConfigError(f"{pattern}: no file matches", hint=f"ls {path.parent}")
    return _chosen(found, pattern)


def is_pattern(path: str) -> bool:
    """Tell whether a path names files by ``*`` or ``?``."""
    return "*" in path or "?" in path


def find_remote(url: str, endings: Sequence[str]) -> list[Found]:
    """Return the files of a URL: the one it names, those of a folder, or those that match a pattern.

    Of a folder, files of known endings are taken, sorted by name; hidden ones are passed over.

    Raises:
        ConfigError: Nothing is there, the store cannot be reached, or as :func:`list_folder` but for links.
    """
    filesystem, path = open_filesystem(url)
    name = redacted_url(url)
    try:
        if is_pattern(path):
            matched = [RemoteFile(filesystem, str(m)) for m in filesystem.glob(path)]
            if not matched:
                raise ConfigError(f"{name}: no file matches")
            return _chosen((Found(m.name, m) for m in matched), name)
        if filesystem.isdir(path):
            below = ((str(e)[len(path.rstrip("/")) :].lstrip("/"), str(e)) for e in filesystem.find(path))
            shown = (Found(b, RemoteFile(filesystem, e)) for b, e in below if "/." not in f"/{b}")
            return _chosen(shown, name, endings)
        if not filesystem.exists(path):
            raise ConfigError(f"{name}: no such file")
    except ConfigError:
        raise
    except Exception as error:  # each store has errors of its own: no credentials, no network, no bucket
        raise ConfigError(f"{name}: cannot be reached: {type(error).__name__}: {error}") from None
    return [Found(PurePosixPath(path).name, RemoteFile(filesystem, path))]


def splits_of(found: Sequence[Found]) -> dict[str, list[Found]]:
    """Return a folder's files by the split their names say; empty unless all of them say one."""
    by_split: dict[str, list[Found]] = {}
    for file in found:
        split = split_of_name(file.name)
        if split is None:
            return {}
        by_split.setdefault(split, []).append(file)
    return by_split
