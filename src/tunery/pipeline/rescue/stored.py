"""Prompts of completions that a source has stored for its account."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tunery.core.errors import NotFoundError
from tunery.pipeline.rescue.prompts import FoundPrompt, NoPrompt, Prompts, prompt_of
from tunery.rescue.records import Scope
from tunery.rescue.source import Source

_PAGE = 100
_AT_ONCE = 64
"""Completions whose messages are read together, over as many connections as a source is given [count]."""


async def stored_prompts(scope: Scope, model: str) -> Prompts:
    """Return what a model was asked in completions that are stored at its source, with its tools.

    Every page is read, the messages of several completions at once.

    Raises:
        NotFoundError: The source knows no stored completions.
        ConfigError: The key may not read them.
        ResourceError: The source does not answer.
    """
    every = Prompts([], [])
    async with Source(scope) as source:
        items = [
            item
            async for item in source.pages("chat/completions", _PAGE)
            if isinstance(item, Mapping) and item.get("model") == model
        ]
        for begin in range(0, len(items), _AT_ONCE):
            some = items[begin : begin + _AT_ONCE]
            read = await asyncio.gather(*(_prompt(source, item) for item in some))
            every.found.extend(one for one in read if isinstance(one, FoundPrompt))
            every.left_out.extend(one for one in read if isinstance(one, str))
    return every


async def _prompt(source: Source, item: Mapping[str, Any]) -> FoundPrompt | str | None:
    """Return what one completion was asked, why that cannot be understood, or None where it is deleted."""
    id = item.get("id")
    path = f"chat/completions/{id}/messages"
    try:
        turns = [turn async for turn in source.pages(path, _PAGE)]
        messages = [_turn(turn) if isinstance(turn, Mapping) else turn for turn in turns]
        return prompt_of({"messages": _asked(messages), "tools": item.get("tools")}, "stored")
    except NotFoundError:
        return None  # deleted since the page was read
    except NoPrompt as bad:
        return f"stored completion {id!s:.80}: {bad}"


def _asked(turns: Sequence[Any]) -> Sequence[Any]:
    """Return the turns without an answer behind them, which is the old model's and nobody's truth."""
    last = turns[-1] if turns else None
    return turns[:-1] if isinstance(last, Mapping) and last.get("role") == "assistant" else turns


def _turn(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored turn as it was sent: without its id and what it has not."""
    turn = {key: value for key, value in kept.items() if key not in ("id", "content_parts") and value}
    parts = kept.get("content_parts")
    return {**turn, "content": parts if parts else kept.get("content") or ""}
