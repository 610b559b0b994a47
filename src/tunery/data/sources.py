"""Sources: from a path in a recipe to its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from tunery.core.errors import ConfigError, nearest
from tunery.core.ids import sha256_file
from tunery.data.config import FileFormat, SourceConfig
from tunery.data.delimited import read_delimited
from tunery.data.jsonrows import read_json_array, read_jsonl
from tunery.data.parquet import read_parquet
from tunery.data.rows import RawRow

_ENDINGS: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class Source(NamedTuple):
    """A source whose file was found."""

    settings: SourceConfig
    path: Path
    format: FileFormat
    sha256: str
    """Of the file's bytes."""

    @property
    def name(self) -> str:
        """How messages and records call it: as the recipe wrote it."""
        return self.settings.path


def locate(settings: SourceConfig, base_dir: Path) -> Source:
    """Find a source's file, tell its format and hash its bytes.

    Raises:
        ConfigError: No such file (names the nearest one beside it), a folder, empty, unreadable, or an
            ending that tells no format.
    """
    path = base_dir / settings.path
    name = settings.path
    if not path.exists():
        raise _missing(path, name)
    if path.is_dir():
        raise ConfigError(f"{name} is a folder; a source is one file", hint=f"ls {name}")
    try:
        if path.stat().st_size == 0:
            raise ConfigError(f"{name}: the file is empty")
        digest = sha256_file(path)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None
    return Source(settings, path, file_format(settings, path), digest)


def _missing(path: Path, name: str) -> ConfigError:
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    if near:
        return ConfigError(f"{name}: no such file; did you mean {str(Path(name).with_name(near))!r}?")
    if not path.parent.is_dir():
        return ConfigError(f"{name}: no such file: the folder {str(path.parent)!r} does not exist")
    return ConfigError(f"{name}: no such file in {str(path.parent)!r}", hint=f"ls {path.parent}")


def file_format(settings: SourceConfig, path: Path) -> FileFormat:
    """Return the format, from the settings or the file name's ending (``.gz`` left aside).

    Raises:
        ConfigError: The ending tells nothing.
    """
    if settings.format != "auto":
        return settings.format
    name = path.name.lower().removesuffix(".gz")
    found = _ENDINGS.get(Path(name).suffix)
    if found is None:
        raise ConfigError(
            f"{settings.path}: the ending {Path(name).suffix or '(none)'!r} tells no format",
            hint=f"set format: to one of {', '.join(get_args(FileFormat))}",
        )
    return found


def iterate(source: Source, wanted: Sequence[str]) -> Iterator[RawRow]:
    """Yield a source's rows in file order, one batch in memory at a time.

    Args:
        source: As :func:`locate` found it.
        wanted: Columns the mapping names; they help to recognise a CSV file's delimiter.

    Raises:
        ConfigError: The file is broken; says where.
    """
    limit = source.settings.max_row_bytes
    if source.format in ("csv", "tsv"):
        delimiter = source.settings.delimiter or ("\t" if source.format == "tsv" else None)
        return read_delimited(
            source.path, source.name, delimiter=delimiter, wanted=wanted, max_row_bytes=limit
        )
    if source.format == "jsonl":
        return read_jsonl(source.path, source.name, max_row_bytes=limit)
    if source.format == "json":
        return read_json_array(source.path, source.name, max_row_bytes=limit)
    return read_parquet(source.path, source.name, max_row_bytes=limit)
