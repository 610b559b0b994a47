"""Alpaca's format: one JSON list of instruction, input and output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example
from tunery.data.writers.writer import Writer, other_than_one_turn, write_array


def _write(examples: Sequence[Example], _: DatasetVersion, path: Path) -> None:
    write_array(path, map(_row, examples))


def _row(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {"instruction": example.prompt[-1].content, "input": ""}
    if example.rejected is None:
        return {**row, "output": example.reference}
    return {**row, "chosen": example.reference, "rejected": example.rejected}


WRITER = Writer(title="Alpaca's JSON", ending="json", write=_write, misfit=other_than_one_turn)
