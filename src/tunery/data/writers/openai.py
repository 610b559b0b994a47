"""OpenAI's format: one JSON object a line, with ``messages`` and ``tools``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunery.core.dataset import DatasetVersion
from tunery.core.example import Example, Message
from tunery.core.tool_text import Described, describe, read_answer, read_functions, write_answer
from tunery.data.writers.writer import Writer


def _write(examples: Sequence[Example], _: DatasetVersion, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for example in examples:
            stream.write(json.dumps(_row(example), ensure_ascii=False) + "\n")


def _misfit(example: Example, _: DatasetVersion) -> str | None:
    return None if example.desirable is None else "it is an unpaired preference, for which there is no key"


def _row(example: Example) -> dict[str, Any]:
    if example.rejected is None:
        return conversation(example.messages)
    return {
        "input": conversation(example.prompt),
        "preferred_output": [_turn_with_calls("assistant", example.reference)],
        "non_preferred_output": [_turn_with_calls("assistant", example.rejected)],
    }


def conversation(messages: Sequence[Message]) -> dict[str, Any]:
    """Return a conversation as OpenAI writes it, functions and calls apart: ``messages`` and ``tools``."""
    turns: list[dict[str, Any]] = []
    waiting: list[str] = []  # ids of calls whose results come next, in their order
    for message in messages:
        turn = _turn_with_calls(message.role, message.content, message.weight, first=len(turns))
        if message.role == "tool" and waiting:
            turn["tool_call_id"] = waiting.pop(0)
        waiting += [call["id"] for call in turn.get("tool_calls", ())]
        turns.append(turn)
    offered = read_functions(messages[0].content) if messages and messages[0].role == "system" else None
    if offered is None or not offered.functions or not _same_text(messages[0].content, offered):
        return {"messages": turns}
    head = [_turn("system", offered.text)] if offered.text else []
    tools = [{"type": "function", "function": f} for f in offered.functions]
    return {"messages": [*head, *turns[1:]], "tools": tools}


def _same_text(system: str, offered: Described) -> bool:
    """Tell whether reading the functions again gives the very same system turn."""
    return system == "\n\n".join([*([offered.text] if offered.text else []), describe(offered.functions)])


def _turn_with_calls(role: str, content: str, weight: int = 1, *, first: int = 0) -> dict[str, Any]:
    """Return a turn; an assistant's calls leave its text where reading them again gives the same text."""
    answer = read_answer(content) if role == "assistant" else None
    if answer is None or not answer.calls or write_answer(answer.text, answer.calls) != content:
        return _turn(role, content, weight)
    calls = [
        {
            "id": f"call_{first}_{i}",
            "type": "function",
            "function": {"name": c.name, "arguments": c.arguments},
        }
        for i, c in enumerate(answer.calls)
    ]
    return {**_turn(role, content, weight), "content": answer.text or None, "tool_calls": calls}


def _turn(role: str, content: str, weight: int = 1) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": role, "content": content}
    return turn if weight else {**turn, "weight": 0}


WRITER = Writer(title="OpenAI's JSON Lines", ending="jsonl", write=_write, misfit=_misfit)
