"""ShareGPT's format: one JSON list of conversations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example
from tunery.data.writers.alpaca import _write_array

_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def _sharegpt(examples: Sequence[Example], version: DatasetVersion, path: Path) -> None:
    def said(role: str, text: str) -> dict[str, str]:
        return {"from": _SHAREGPT[role], "value": text}

    def row(example: Example) -> dict[str, Any]:
        if example.rejected is None:
            return {"conversations": [said(m.role, m.content) for m in example.messages]}
        return {
            "conversations": [said(m.role, m.content) for m in example.prompt],
            "chosen": said("assistant", example.reference),
            "rejected": said("assistant", example.rejected),
        }

    _write_array(path, (row(e) for e in examples))
