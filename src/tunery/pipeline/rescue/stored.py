"""Prompts of completions that a source has stored for its account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunery.core.errors import NotFoundError
from tunery.pipeline.rescue.prompts import FoundPrompt
from tunery.rescue.records import Scope
from tunery.rescue.source import Source

_PAGE = 100


async def stored_prompts(scope: Scope, model: str) -> list[FoundPrompt]:
    """Return what a model was asked in completions that are stored at its source; each page is read.

    Raises:
        NotFoundError: The source knows no stored completions.
        ConfigError: The key may not read them.
        ResourceError: The source does not answer.
    """
    found = []
    async with Source(scope) as source:
        async for item in source.pages("chat/completions", _PAGE):
            if not isinstance(item, Mapping) or item.get("model") != model:
                continue
            path = f"chat/completions/{item.get('id')}/messages"
            try:
                turns = [turn async for turn in source.pages(path, _PAGE)]
            except NotFoundError:
                continue  # deleted since the page was read
            messages = tuple(_turn(turn) for turn in turns if isinstance(turn, Mapping))
            if any(turn.get("role") == "user" for turn in messages):
                found.append(FoundPrompt("stored", messages))
    return found


def _turn(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored turn as it was sent: without its id and what it has not."""
    turn = {key: value for key, value in kept.items() if key not in ("id", "content_parts") and value}
    parts = kept.get("content_parts")
    return {**turn, "content": parts if parts else kept.get("content") or ""}
