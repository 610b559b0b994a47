"""What a format is: how rows are written in it, which it cannot hold, how a recipe reads it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example, without_system


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One format; its file has one as ``WRITER``."""

    title: str
    """What messages call it."""
    ending: str
    """Of its files, without the dot."""
    write: Callable[[Sequence[Example], DatasetVersion, Path], None]
    """Write rows of one split into one file."""
    misfit: Callable[[Example, DatasetVersion], str | None] = lambda _, __: None
    """Return what of a row the format would change in silence; None where it takes the row as it is."""
    source: Callable[[DatasetVersion], Mapping[str, Any]] = lambda _: {}
    """Return what a recipe says of a file to read it again, beside its path and its split."""
    shard_rows: int | None = None
    """Rows a file of a folder ``data``; None writes one file a split [rows]."""
    readme: Callable[[DatasetVersion, Mapping[str, Sequence[str]]], str] | None = None
    """Return the text of a ``README.md`` beside the files, from split to their names."""


def untrained_turn(example: Example, _: DatasetVersion) -> str | None:
    """Return what is lost of a row where a format has no weights."""
    if any(m.weight == 0 for m in example.messages):
        return "a turn is kept out of training, which the format cannot say"
    return None


def other_than_one_turn(example: Example, version: DatasetVersion) -> str | None:
    """Return what is lost of a row where a format holds one question and its answer."""
    lost = untrained_turn(example, version)
    if lost is not None:
        return lost
    if own_system_turn(example, version):
        return "it has a system turn of its own"
    turns = without_system(example.prompt)
    if len(turns) != 1 or turns[0].role != "user":
        return f"it has {len(turns)} turns before the answer, the format has room for one"
    return None


def own_system_turn(example: Example, version: DatasetVersion) -> str | None:
    """Return the system turn of a row that the version's system prompt does not give it."""
    first = example.messages[0]
    return first.content if first.role == "system" and first.content != version.system_prompt else None


def write_array(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as one JSON list, a row a line, holding one at a time."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        separator = "[\n"
        for row in rows:
            stream.write(separator + json.dumps(row, ensure_ascii=False))
            separator = ",\n"
        stream.write("\n]\n")
