"""A CSV file for spreadsheets, whose cells none of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example
from tunery.data.writers.writer import Writer, other_than_one_turn
from tunery.store.spreadsheet import write_sheet


def _write(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    columns = _columns(version)
    rows = ([e.prompt[-1].content, e.reference, _behind(e)][: len(columns)] for e in examples)
    write_sheet(path, columns, rows)


def _behind(example: Example) -> str:
    """Return what stands behind the answer: the rejected one of a pair, or what people thought of it."""
    if example.desirable is not None:
        return "true" if example.desirable else "false"
    return example.rejected or ""


def _columns(version: DatasetVersion) -> list[str]:
    if version.preference:
        return ["prompt", "chosen", "rejected"]
    return ["input", "output", *(["desirable"] if version.unpaired else [])]


def _source(version: DatasetVersion) -> dict[str, Any]:
    return {"export": "spreadsheet", "columns": {name: name for name in _columns(version)}}


WRITER = Writer(
    title="CSV for spreadsheets", ending="csv", write=_write, misfit=other_than_one_turn, source=_source
)
