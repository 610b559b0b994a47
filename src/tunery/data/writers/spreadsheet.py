"""A CSV file for spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example
from tunery.data.readers.formats.spreadsheet import write_sheet


def _csv(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    if version.preference:
        pairs = ([e.prompt[-1].content, e.reference, e.rejected or ""] for e in examples)
        write_sheet(path, ["prompt", "chosen", "rejected"], pairs)
    else:
        write_sheet(path, ["input", "output"], ([e.prompt[-1].content, e.reference] for e in examples))
