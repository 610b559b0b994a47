"""Alpaca's format: one JSON list of instruction, input and output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example


def _alpaca(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    def row(example: Example) -> dict[str, Any]:
        asked = {"instruction": example.prompt[-1].content, "input": ""}
        if example.rejected is None:
            return {**asked, "output": example.reference}
        return {**asked, "chosen": example.reference, "rejected": example.rejected}

    _write_array(path, (row(e) for e in examples))


def _write_array(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        separator = "[\n"
        for row in rows:
            stream.write(separator + json.dumps(row, ensure_ascii=False))
            separator = ",\n"
        stream.write("\n]\n")
