"""Sources: from a path in a recipe to the files that hold its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from tunery.core.errors import ConfigError, did_you_mean
from tunery.core.ids import canonical_json, sha256_text
from tunery.data.config import DataConfig, FileFormat, SourceConfig
from tunery.data.readers.storage.compression import unpacked_name
from tunery.data.readers.storage.folders import (
    Found,
    find_remote,
    is_pattern,
    list_folder,
    match_files,
    saved_files,
    saved_splits,
    split_of_name,
    splits_of,
)
from tunery.data.readers.storage.lines import readable
from tunery.store.urls import RawFile, is_url, redacted_url, sha256_raw

_FORMATS: dict[FileFormat, tuple[str, ...]] = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson"),
    "json": (".json",),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
}
_ENDINGS = {ending: kind for kind, endings in _FORMATS.items() for ending in endings}
_SHA256_OF_NOTHING = sha256_text("")


class Source(NamedTuple):
    """A source whose files were found."""

    settings: SourceConfig
    format: FileFormat
    sha256: str
    """Of the file's bytes; of a folder, over its files' hashes in their order; empty where not wanted."""
    files: tuple[Found, ...]
    """What is read, in this order."""

    @property
    def name(self) -> str:
        """How messages and records call it: as the recipe wrote it."""
        return redacted_url(self.settings.path)


def locate(settings: SourceConfig, base_dir: Path, *, hashed: bool = True) -> Source:
    """Find a source's files, find out their format and hash their bytes.

    Args:
        settings: Its ``path`` is a file, a folder, a pattern such as ``train-*.parquet``, a folder that
            ``datasets`` saved, or a URL of any of the first three. ``#train`` behind a folder takes one
            split.
        base_dir: Folder that relative paths start from.
        hashed: Whether every byte is read for the hash, which is empty otherwise.

    Raises:
        ConfigError: No such file (names the nearest one beside it), empty, unreadable, an ending of no known
            format, several splits or formats in one folder, or files in it that are never read.
    """
    name = redacted_url(settings.path)
    found = _find(settings, base_dir)
    kinds = {file_format(settings, Path(f.name)) for f in found}
    if len(kinds) > 1:
        raise ConfigError(
            f"{name}: the folder mixes {', '.join(sorted(kinds))} files",
            hint=f"set format: to one of {', '.join(sorted(kinds))} for this source",
        )
    with readable(name):
        digests = {f: sha256_raw(f.file) if hashed else _sha256_of_first(f.file) for f in found}
    filled = {f: digest for f, digest in digests.items() if digest != _SHA256_OF_NOTHING}
    if not filled:
        raise ConfigError(f"{name}: the file is empty" if len(found) == 1 else f"{name}: all files are empty")
    if not hashed:
        return Source(settings, kinds.pop(), "", tuple(filled))
    hashes = [*filled.values()]
    digest = hashes[0] if len(hashes) == 1 else sha256_text(canonical_json(hashes))
    return Source(settings, kinds.pop(), digest, tuple(filled))


def _sha256_of_first(file: RawFile) -> str:
    """Return the SHA-256 of a file's first byte, which tells an empty one from others."""
    with file.open("rb") as stream:
        return hashlib.sha256(stream.read(1)).hexdigest()


def expand_sources(config: DataConfig, base_dir: Path) -> DataConfig:
    """Return settings in which every folder of several splits is one source for each of its splits.

    ``path: rows`` with ``rows/train-*.parquet`` and ``rows/test-*.parquet`` becomes ``rows#train`` with
    ``split: train`` and ``rows#test`` with ``split: test``. All other sources stay as they are.

    Raises:
        ConfigError: A split whose name is none of training, validation and test.
    """
    expanded: list[SourceConfig] = []
    for settings in config.sources:
        names = _splits(settings, base_dir) if settings.split == "auto" else []
        if len(names) < 2:
            expanded.append(settings)
            continue
        splits = {name: split_of_name(name) for name in names}
        unknown = sorted(name for name, split in splits.items() if split is None)
        if unknown:
            raise ConfigError(
                f"{redacted_url(settings.path)}: what are the splits {', '.join(map(repr, unknown))} for?",
                hint=f"list the splits to use as sources, such as {settings.path}#{min(splits)}",
            )
        expanded += [
            settings.model_copy(update={"path": f"{settings.path}#{name}", "split": split})
            for name, split in splits.items()
        ]
    return config.model_copy(update={"sources": tuple(expanded)})


def _splits(settings: SourceConfig, base_dir: Path) -> list[str]:
    """Return the names of a folder's splits; none for a file, or where one was chosen."""
    path, _, fragment = settings.path.partition("#")
    if fragment or is_pattern(path):
        return []
    if is_url(path):
        return [*splits_of(find_remote(path, _wanted_endings(settings)))]
    folder = base_dir / path
    if not folder.is_dir():
        return []
    saved = saved_splits(folder, path)
    if saved is not None:
        return saved
    if saved_files(folder, path) is not None:
        return []
    return [*splits_of(list_folder(folder, path, _wanted_endings(settings)))]


def _find(settings: SourceConfig, base_dir: Path) -> list[Found]:
    whole = settings.path
    if is_url(whole):
        url, _, fragment = whole.partition("#")
        found = find_remote(url, _wanted_endings(settings))
        return _of_split(found, redacted_url(url), fragment, settings)
    path = base_dir / whole
    fragment = ""
    if "#" in whole and not path.exists():
        whole, _, fragment = whole.partition("#")
        path = base_dir / whole
    if is_pattern(path.name) and not path.exists():
        return match_files(whole, base_dir)
    if not path.exists():
        raise _missing(path, whole)
    if path.is_dir():
        return _of_folder(path, whole, fragment, settings)
    if not path.is_file():
        raise ConfigError(f"{whole}: is neither a file nor a folder")
    return [Found(path.name, path)]


def _of_folder(path: Path, name: str, fragment: str, settings: SourceConfig) -> list[Found]:
    saved = saved_splits(path, name)
    if saved is not None:
        split = _chosen_split(name, saved, fragment, settings)
        files = saved_files(path / split, f"{name}/{split}")
        if files is None:
            raise ConfigError(f"{name}: the split {split!r} has no state.json")
        return files
    files = saved_files(path, name)
    if files is not None:
        return files
    return _of_split(list_folder(path, name, _wanted_endings(settings)), name, fragment, settings)


def _of_split(found: list[Found], name: str, fragment: str, settings: SourceConfig) -> list[Found]:
    """Return those files of a folder that the source means."""
    by_split = splits_of(found)
    if not fragment and len(by_split) < 2:
        return found
    return by_split[_chosen_split(name, list(by_split), fragment, settings)]


def _chosen_split(name: str, splits: Sequence[str], fragment: str, settings: SourceConfig) -> str:
    """Return the one split that the source means, by what stands behind ``#`` or by its ``split``."""
    chosen = [
        s for s in splits if fragment == s or (not fragment and settings.split in ("auto", split_of_name(s)))
    ]
    if len(chosen) == 1:
        return chosen[0]
    if fragment:
        raise ConfigError(f"{name}: no split {fragment!r} (there is: {', '.join(splits) or 'none'})")
    raise ConfigError(
        f"{name}: holds several splits ({', '.join(splits)}); a source is one of them",
        hint=f"write path: {name}#{splits[0]}, one source for each split",
    )


def _missing(path: Path, name: str) -> ConfigError:
    if not path.parent.is_dir():
        return ConfigError(f"{name}: no such file: the folder {str(path.parent)!r} does not exist")
    meant = did_you_mean(path.name, sorted(p.name for p in path.parent.iterdir()))
    return ConfigError(f"{name}: no such file in {str(path.parent)!r}{meant}", hint=f"ls {path.parent}")


def _wanted_endings(settings: SourceConfig) -> tuple[str, ...]:
    return tuple(e for e, kind in _ENDINGS.items() if settings.format in ("auto", kind))


def file_format(settings: SourceConfig, path: Path) -> FileFormat:
    """Return the format, from the settings or the file name's ending (``.gz`` and ``.zst`` left aside).

    Raises:
        ConfigError: The ending is that of no format.
    """
    if settings.format != "auto":
        return settings.format
    ending = Path(unpacked_name(path.name.lower())).suffix
    found = _ENDINGS.get(ending)
    if found is None:
        raise ConfigError(
            f"{settings.path}: the ending {ending or '(none)'!r} tells no format",
            hint=f"set format: to one of {', '.join(get_args(FileFormat))}",
        )
    return found
