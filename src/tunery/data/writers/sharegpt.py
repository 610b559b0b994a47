"""ShareGPT's format: one JSON list of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import LIKED, Example
from tunery.data.writers.writer import Writer, untrained_turn, write_array

_SENDERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def _write(examples: Sequence[Example], _: DatasetVersion, path: Path) -> None:
    write_array(path, map(_row, examples))


def _row(example: Example) -> dict[str, Any]:
    if example.rejected is None:
        row: dict[str, Any] = {"conversations": [_turn(m.role, m.content) for m in example.messages]}
        return row if example.desirable is None else {**row, LIKED: example.desirable}
    return {
        "conversations": [_turn(m.role, m.content) for m in example.prompt],
        "chosen": _turn("assistant", example.reference),
        "rejected": _turn("assistant", example.rejected),
    }


def _turn(role: str, text: str) -> dict[str, str]:
    return {"from": _SENDERS[role], "value": text}


def _source(version: DatasetVersion) -> dict[str, Any]:
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    return {"columns": columns} if version.preference else {}


WRITER = Writer(title="ShareGPT's JSON", ending="json", write=_write, misfit=untrained_turn, source=_source)
