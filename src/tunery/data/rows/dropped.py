"""Dropped: records of removed rows, for people to look at; what a recipe masks is masked in them too."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from tunery.core.example import Drop, Dropped, Example
from tunery.text.pii import mask
from tunery.text.pii.mask import RAW_CHARS
from tunery.text.pii.types import PiiType

DROPPED_CHARS = 2000
"""Longest content kept of a removed row [characters]."""


def dropped_row(source: str, row: int, drop: Drop, content: Any) -> Dropped:
    """Return the record of a removed row: its content as JSON, not yet masked and cut."""
    return Dropped(source=source, row=row, reason=drop.reason, detail=drop.detail, text=_json(content))


def dropped_example(example: Example, drop: Drop) -> Dropped:
    """Return the record of a removed row that was already understood as a conversation."""
    return dropped_row(example.metadata["source"], example.metadata["row"], drop, _conversation(example))


def dropped_content(example: Example) -> str:
    """Return what the record of a removed row would hold of a conversation."""
    return _json(_conversation(example))[:DROPPED_CHARS]


def _conversation(example: Example) -> dict[str, Any]:
    content: dict[str, Any] = {"messages": [{"role": m.role, "content": m.content} for m in example.messages]}
    if example.rejected is not None:
        content["rejected"] = example.rejected
    if example.desirable is not None:
        content["desirable"] = example.desirable
    return content


def _json(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)[:RAW_CHARS]
    # Half of a surrogate pair cannot be stored; its escape can.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def masked_drops(dropped: Sequence[Dropped], types: Collection[PiiType]) -> list[Dropped]:
    """Return records cut, and with personal data of some kinds masked in content and detail.

    Args:
        dropped: Records of removed rows.
        types: What cleaning masks and drops for a row that it never saw; what it drops for, for others.
    """
    texts, details = [d.text for d in dropped], [d.detail for d in dropped]
    if types and dropped:
        texts, details = mask(texts, types).texts, mask(details, types).texts
    cut = [t[:DROPPED_CHARS] for t in texts]
    return [
        d if (d.text, d.detail) == (text, detail) else d.with_(text=text, detail=detail)
        for d, text, detail in zip(dropped, cut, details, strict=True)
    ]
