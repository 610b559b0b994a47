"""Alpaca's format: one JSON list of instruction, input and output, with the system turn and the history."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import LIKED, Example, without_system
from tunery.data.writers.writer import Writer, own_system_turn, untrained_turn, write_array


def _write(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    write_array(path, (_row(example, version) for example in examples))


def _row(example: Example, version: DatasetVersion) -> dict[str, Any]:
    row: dict[str, Any] = {"instruction": example.prompt[-1].content, "input": ""}
    if example.rejected is None:
        row["output"] = example.reference
        if example.desirable is not None:
            row[LIKED] = example.desirable
    else:
        row |= {"chosen": example.reference, "rejected": example.rejected}
    system = own_system_turn(example, version)
    earlier = [m.content for m in without_system(example.prompt)[:-1]]
    if system is not None:
        row["system"] = system
    if earlier:
        row["history"] = [list(pair) for pair in zip(earlier[::2], earlier[1::2], strict=True)]
    return row


def _misfit(example: Example, version: DatasetVersion) -> str | None:
    roles = [m.role for m in without_system(example.messages)]
    if roles != ["user", "assistant"] * (len(roles) // 2) or not all(
        m.content.strip() for m in example.messages
    ):
        return "its turns are not pairs of a question and an answer"
    return untrained_turn(example, version)


WRITER = Writer(title="Alpaca's JSON", ending="json", write=_write, misfit=_misfit)
