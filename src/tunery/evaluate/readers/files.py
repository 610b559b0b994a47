"""What a file holds, whatever it is written in: values with the numbers of their rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tunery.core.errors import ConfigError

_HINT = "tunery evaluate run RECIPE --predictions OUT.jsonl"


class Numbered(NamedTuple):
    """A row, or a document as a whole."""

    number: int
    """Counted from 1; in files of lines, the line."""
    value: Any


def load(path: Path, problems: list[str]) -> list[Numbered]:
    """Return a file's rows; a JSON document that is no list is its only one.

    Raises:
        ConfigError: It is missing, is not UTF-8, or cannot be parsed as its ending says.
    """
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            return _parquet(path)
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="" if ending in (".csv", ".tsv") else None) as stream:
            if ending in (".csv", ".tsv"):
                return list(_table(stream, "\t" if ending == ".tsv" else ",", problems))
            if ending == ".json" and (found := _document(stream.read())) is not None:
                return found
            stream.seek(0)
            return list(_lines(stream, problems))
    except UnicodeDecodeError as error:
        hint = "inspect log convert --to json --output-dir OUT FILE" if ending == ".eval" else None
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})", hint=hint) from None
    except csv.Error as error:
        raise ConfigError(f"{path}: not a table ({error})") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint=_HINT) from None


def _document(text: str) -> list[Numbered] | None:
    """Return what a JSON document holds, None where the file is none: lines are often called .json, too."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return [Numbered(i, row) for i, row in enumerate(value if isinstance(value, list) else [value], 1)]


def _lines(stream: Iterable[str], problems: list[str]) -> Iterator[Numbered]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            yield Numbered(number, json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            problems.append(f"row {number}: not JSON ({error!s:.80})")


def _table(stream: Iterable[str], delimiter: str, problems: list[str]) -> Iterator[Numbered]:
    for number, row in enumerate(csv.DictReader(stream, delimiter=delimiter, strict=True), 1):
        if None in row or None in row.values():
            problems.append(f"row {number}: has another number of cells than the header")
            continue
        yield Numbered(number, dict(row))


def _parquet(path: Path) -> list[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ConfigError(f"{path}: no such file", hint=_HINT)
    try:
        return [Numbered(i, row) for i, row in enumerate(pq.read_table(path).to_pylist(), 1)]
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: not Parquet ({error!s:.80})") from None
